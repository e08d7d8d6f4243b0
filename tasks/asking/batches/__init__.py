"""Message Batches: half the price, answers within a day, and no batch submitted twice.

choosing     whether a question may be put into a batch, and whether one will come in time
packing      requests wait until a batch is full; its body, made while it is sent
intents      the write-ahead log: what is to be submitted, durable before it is
submitting   intent, create, id: each durable before the next
polling      a batch under way: found again, watched, downloaded
merging      lines of results become kept answers and rows of `calls`, each once
wire         the endpoint's side: create, list, retrieve, cancel, results into a file
waiting      pages that wait, and their ends
earlier      what other runs have submitted
following    the batches of one run, until their answers are kept
asker        a way to ask: from a page to its answer by way of a batch

README.md beside this file: the life of a batch, and what is durable when.
"""

from decimal import Decimal

from tasks.asking.batches.asker import BatchAsker
from tasks.asking.batches.following import Following
from tasks.asking.batches.intents import IntentLog
from tasks.asking.batches.merging import Merging
from tasks.asking.batches.polling import Patience, Poller
from tasks.asking.batches.submitting import Submitter
from tasks.asking.batches.waiting import Waits
from tasks.asking.batches.wire import PATH, Wire, cancelling
from tasks.asking.caller import Caller
from tasks.asking.calls import CallLedger
from tasks.asking.client import make_client, secrets_of
from tasks.asking.halting import Halting
from tasks.asking.keeping import Keeping
from tasks.asking.pages import EngineSettings
from tasks.billing.pricing import NANO_USD, usd
from tasks.storage.files import make_private_folder

SHOWN = 20  # of the ids of batches that run on
SUBMIT_S = 600.0  # for one batch to be sent: 32 MB are a minute at 4 Mbit/s


class Batches:
    """The batches of one engine, for whoever opens, watches and closes it."""

    def __init__(
        self, settings: EngineSettings, ledger: CallLedger, keeping: Keeping, halting: Halting, online: Caller
    ) -> None:
        assert settings.batches is not None
        self.settings = settings.batches
        self._endpoint = settings.endpoint
        self._client = make_client(
            settings.endpoint, concurrency=8, timeout=max(settings.timeout, SUBMIT_S), streams=True
        )
        log = IntentLog(self.settings.log, settings.endpoint.identity, settings.run_id)
        wire = Wire(self._client)
        self._waits = waits = Waits(online.budget)
        self._submitter = Submitter(settings, wire, log, halting, waits)
        poller = Poller(wire, log, secrets_of(settings.endpoint), halting.stay)
        poller.patience = Patience(absent=self.settings.absent)
        merging = Merging(settings, keeping, ledger, halting)
        deadline = self._submitter.deadline
        self._following = Following(settings, online.budget, waits, deadline, (poller, merging, halting))
        parts = (self._submitter, poller, merging.pricer, keeping, halting)
        self._asker = BatchAsker(settings, online, waits, self._following, parts)

    async def open(self) -> BatchAsker:
        """The way to ask; what earlier runs left is taken over. Raises OutputError, EndpointError."""
        make_private_folder(self.settings.folder)
        await self._asker.begin()
        return self._asker

    async def close(self) -> None:
        """Leave what runs."""
        await self._following.end()
        await self._client.close()

    def expect(self, *, more: bool) -> None:
        """Whether more will soon be asked; from any thread."""
        self._submitter.backlog.expecting = more

    async def change(self) -> None:
        """Until a page that waits may ask again, or has waited for nothing."""
        await self._waits.change()

    @property
    def in_flight(self) -> int:
        """Requests in batches that run."""
        return self._following.in_flight

    @property
    def count(self) -> int:
        """Batches that this run submitted, or took over and collected."""
        return self._following.submitted + self._following.collected

    @property
    def requests(self) -> int:
        """Requests in those."""
        return self._following.requests

    @property
    def left_line(self) -> str | None:
        """What runs on at the endpoint, what it may cost, and what to do about it; None if nothing does."""
        left = self._following.left
        if not left:
            return None
        worst = sum((running.worst_usd for running in left), Decimal(0))
        one = len(left) == 1
        return (
            f"{len(left):,} Message Batch{' runs' if one else 'es run'} on at the endpoint, with {self.in_flight:,} "
            f"requests that may cost {usd(worst.quantize(NANO_USD))} at most. The same command collects "
            f"{'it' if one else 'them'}; to cancel {'it' if one else 'one'}, POST {PATH}/ID/cancel or use the Console"
            f"{self._cancelling([running.intent.batch_id for running in left if running.intent.batch_id])}."
        )

    def _cancelling(self, names: list[str]) -> str:
        """A line for a shell that cancels them; with it their ids are told."""
        if not names:
            return ""
        more = f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
        return f": {cancelling(self._endpoint, names[:SHOWN])}{more}"

    def table(self) -> list[dict[str, str]]:
        """Every batch of this run, for people."""
        return [*self._following.history, *(running.row() for running in self._following.left)]
