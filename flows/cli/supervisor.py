"""What a process worker starts instead of Prefect's engine: a run that outlives its worker for as long as it needs.

A worker that is told to end kills the process it started, at once, and Cancel kills it after 30 s (Prefect 3.9: no
setting changes either); a killed run leaves no table and says Running for ever. What it may kill is this process, and
the engine is its child in a session of its own. A pipe whose writing end only this process has tells the child to end:
it closes when this process is told to end, and when it is killed. The job variable `command` names it.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import sleep

CHILD_POLL_S = 0.1
REST_S = 5.0  # for the last lines of a child that has ended
BLOCK = 65_536


def supervise() -> int:
    """Run the engine in a process of its own; its exit status, 128 and more where a signal ended it."""
    order, ordering = os.pipe()
    output, printing = os.pipe()
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: received.append(number))
    # The child has the reading end of its output too: when nobody reads any more, printing may not fail.
    command = [sys.executable, "-m", "flows.cli.supervisor", str(order), str(output)]
    child = subprocess.Popen(
        command, stdout=printing, stderr=printing, pass_fds=(order, output), start_new_session=True
    )
    os.close(printing)
    os.close(order)
    relaying = threading.Thread(target=_relay, args=(output,), name="visionflow-relay", daemon=True)
    relaying.start()
    while child.poll() is None:
        if received and ordering >= 0:
            os.close(ordering)
            ordering = -1
        sleep(CHILD_POLL_S)
    relaying.join(REST_S)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _relay(output: int) -> None:
    """Hand the child's lines to the worker; one that is gone does not hold up the child."""
    while block := os.read(output, BLOCK):
        with suppress(OSError):
            sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()


def run_engine(order: int) -> None:
    """Prefect's engine, in this process; `order` is the pipe that closes when it is to end."""
    # Until the flow handles a hang-up itself, it means what SIGTERM does: Prefect then says Crashed, and not Running.
    signal.signal(signal.SIGHUP, lambda _number, _frame: signal.raise_signal(signal.SIGTERM))
    threading.Thread(target=_end_by, args=(order, os.getppid()), name="visionflow-order", daemon=True).start()
    sys.argv = ["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__")


def _end_by(order: int, supervisor: int) -> None:
    os.read(order, 1)
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        sleep(CHILD_POLL_S)  # still importing: Prefect could not say how the run ended
    # A hang-up, since a service manager gives SIGTERM to all, and the same signal twice means at once.
    os.kill(os.getpid(), signal.SIGHUP)
    while os.getppid() == supervisor:
        sleep(CHILD_POLL_S)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)  # before the pipe that nobody reads is full


def main(arguments: Sequence[str]) -> int:
    """Without arguments supervise; with the numbers of the pipes be the engine."""
    if not arguments:
        return supervise()
    run_engine(int(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
