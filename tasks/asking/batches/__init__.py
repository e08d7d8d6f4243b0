"""Message Batches: half the price, answers within a day, and no batch submitted twice.

choosing     whether a question may be put into a batch, and whether one will come in time
packing      requests wait until a batch is full; its body, made while it is sent
intents      the write-ahead log: what is to be submitted, durable before it is
submitting   intent, create, id: each durable before the next
polling      a batch under way: found again, watched, downloaded
merging      lines of results become kept answers and rows of `calls`, each once
wire         the endpoint's side: create, list, retrieve, cancel, results into a file
asker        a way to ask: from a page to its answer by way of a batch

README.md beside this file: the life of a batch, and what is durable when.
"""

from decimal import Decimal

from tasks.asking.batches.asker import BatchAsker
from tasks.asking.batches.intents import IntentLog
from tasks.asking.batches.merging import Merging
from tasks.asking.batches.polling import Patience, Poller
from tasks.asking.batches.submitting import Submitter
from tasks.asking.batches.wire import PATH, Wire
from tasks.asking.caller import Caller
from tasks.asking.calls import CallLedger
from tasks.asking.client import make_client, secrets_of
from tasks.asking.halting import Halting
from tasks.asking.keeping import Keeping
from tasks.asking.pages import EngineSettings
from tasks.billing.pricing import NANO_USD, usd
from tasks.storage.files import make_private_folder

SHOWN = 3  # of the ids of batches that run on
SUBMIT_S = 600.0  # for one batch to be sent: 32 MB are a minute at 4 Mbit/s


class Batches:
    """The batches of one engine, for whoever opens, watches and closes it."""

    def __init__(
        self, settings: EngineSettings, ledger: CallLedger, keeping: Keeping, halting: Halting, online: Caller
    ) -> None:
        assert settings.batches is not None
        self.settings = settings.batches
        self._client = make_client(
            settings.endpoint, concurrency=8, timeout=max(settings.timeout, SUBMIT_S), streams=True
        )
        log = IntentLog(self.settings.log, settings.endpoint.identity, settings.run_id)
        wire = Wire(self._client)
        self._submitter = Submitter(settings, wire, log, halting)
        poller = Poller(wire, log, secrets_of(settings.endpoint), halting.stay)
        poller.patience = Patience(absent=self.settings.absent)
        merging = Merging(settings, keeping, ledger, halting)
        self._asker = BatchAsker(settings, online, (self._submitter, poller, merging, keeping, halting))

    async def open(self) -> BatchAsker:
        """The way to ask; what earlier runs left is taken over. Raises OutputError, EndpointError."""
        make_private_folder(self.settings.folder)
        await self._asker.begin()
        return self._asker

    async def close(self) -> None:
        """Leave what runs."""
        await self._asker.end()
        await self._client.close()

    def expect(self, *, more: bool) -> None:
        """Whether more will soon be asked; from any thread."""
        self._submitter.backlog.expecting = more

    @property
    def in_flight(self) -> int:
        """Requests in batches that run."""
        return self._asker.in_flight

    @property
    def count(self) -> int:
        """Batches that this run submitted, or took over and collected."""
        return self._asker.submitted + self._asker.collected

    @property
    def requests(self) -> int:
        """Requests in those."""
        return self._asker.requests

    @property
    def left_line(self) -> str | None:
        """What runs on at the endpoint, what it may cost, and what to do about it; None if nothing does."""
        left = self._asker.left
        if not left:
            return None
        worst = sum((running.worst_usd for running in left), Decimal(0))
        one = len(left) == 1
        return (
            f"{len(left):,} Message Batch{' runs' if one else 'es run'} on at the endpoint, with {self.in_flight:,} "
            f"requests that may cost {usd(worst.quantize(NANO_USD))} at most. The same command collects "
            f"{'it' if one else 'them'}; to cancel {'it' if one else 'one'}, POST {PATH}/ID/cancel or use the Console "
            f"({', '.join(running.name for running in left[:SHOWN])}{' ...' if len(left) > SHOWN else ''})."
        )

    def table(self) -> list[dict[str, str]]:
        """Every batch of this run, for people."""
        return [*self._asker.history, *(running.row() for running in self._asker.left)]
