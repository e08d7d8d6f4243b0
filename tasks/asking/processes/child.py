"""A process that asks: one engine, fed over a socket, until there is nothing more to ask or the run is gone.

Started as `python -m tasks.asking.processes.child` with the socket as standard input.
"""

import gc
import signal
import socket
import sys
from concurrent.futures import Future
from contextlib import suppress

from tasks.asking.calls import CallLedger
from tasks.asking.engine import Engine
from tasks.asking.halting import Halt
from tasks.asking.journal import Journal
from tasks.asking.limits.spend import SharedSpend
from tasks.asking.processes.wire import Ask, Broken, End, News, Opening, Told, Wire
from tasks.asking.records import Outcome


class Desk:
    """Takes pages in and tells how it ended for each."""

    def __init__(self, wire: Wire, engine: Engine, ledger: CallLedger) -> None:
        self._wire = wire
        self._engine = engine
        self._ledger = ledger

    def serve(self) -> None:
        """Until the run says that there is nothing more to ask, or is gone."""
        with suppress(EOFError, OSError):
            while not isinstance(message := self._wire.receive(), End):
                if isinstance(message, Halt):
                    self._engine.stop(message)
                else:
                    self._ask(message)

    def _ask(self, ask: Ask) -> None:
        future = self._engine.submit([ask.page], attempts=ask.attempts)
        future.add_done_callback(lambda done: self._tell(ask, done))

    def _tell(self, ask: Ask, done: Future[list[Outcome]]) -> None:
        if error := done.exception():
            self.say(Broken(ask.number, f"{type(error).__name__}: {error}"))
        else:
            (outcome,) = done.result()
            self.say(Told(ask.number, outcome, ask.page.attempts, ask.page.spent))

    def say(self, told: Told | Broken | None = None, *, last: bool = False) -> None:
        """Tell the run; if it is gone, the journal has what it needs to know."""
        news = News(told, self._ledger.drain(), self._engine.in_flight, self._engine.halt, last)
        with suppress(OSError):
            self._wire.send(news)


def main() -> None:
    """Ask until told to end. Calls in flight are finished and kept in any case."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what an interruption means
    gc.disable()
    wire = Wire(socket.socket(fileno=0))
    sys.path[:] = wire.receive()  # the run's, where the model of a schema may lie
    opening: Opening = wire.receive()
    settings = opening.settings
    journal = Journal(*opening.place, settings.run_id, opening.number)
    ledger = CallLedger(
        journal,
        endpoint=settings.endpoint.identity,
        preset=opening.preset,
        first=opening.number + 1,
        step=opening.processes,
    )
    engine = Engine(settings, opening.store, ledger, SharedSpend(opening.spend_fd))
    desk = Desk(wire, engine, ledger)
    with engine:
        gc.freeze()  # modules stay for good
        gc.enable()
        desk.say()
        desk.serve()
    desk.say(last=True)
    journal.close()


if __name__ == "__main__":
    main()
