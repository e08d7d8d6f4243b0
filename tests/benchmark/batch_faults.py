"""`python -m tests.benchmark.batch_faults`: what becomes of 40 images at each fault that a simulated batch has."""

import sys
import tempfile
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from tasks.asking import batches
from tasks.asking.batches import packing
from tasks.asking.batches.polling import Patience
from tasks.asking.pages import BatchSettings
from tasks.simulator import Simulator
from tests.asking import Asked, asking, pages_again, statuses
from tests.benchmark.measuring import table

IMAGES, ATTEMPTS = 40, 3
HEADER = ("fault", "rows", "batches", "requests", "billed", "in `calls`", "maybe", "bill is the ledger's")
# As (name, faults of the batch, faults of its rows).
FAULTS = [
    ("none; results in any order", "", ""),
    ("404 for 1 s after a good create", "late=1", ""),
    ("the reply of create is lost", "lost=1", ""),
    ("create is cut off, nothing is made", "unmade=1", ""),
    ("529 to the first two creates", "busy=2", ""),
    ("413 above 15 requests", "most=15", ""),
    ("results_url on another host", "elsewhere", ""),
    ("cancelled half-way, slowly", "slow_cancel=1", ""),
    ("results are deleted", "archived", ""),
    ("30 % of the rows expire", "", "expired=0.3"),
    ("20 % errored, overloaded_error", "", "529=0.2"),
    ("20 % errored, rate_limit_error", "", "429=0.2"),
    ("20 % errored, api_error", "", "500=0.2"),
    ("20 % errored, invalid_request_error", "", "400=0.2"),
    ("20 % errored, the image is refused", "", "400_image=0.2"),
    ("20 % of the lines are cut off", "", "truncate=0.2"),
    ("20 % of the answers run out of room", "", "max_tokens=0.2"),
    ("20 % of the answers are refusals", "", "refusal=0.2"),
    ("empty balance on every row", "", "balance=1"),
    ("the spend limit is reached", "", "spend=1"),
]


def main() -> int:
    """Run each, and print the table."""
    packing.QUIET_S = 0.1
    setattr(batches, "Patience", partial(Patience, poll=0.05, slowest_poll=0.2))  # noqa: B010  # shorter waits
    print(table(HEADER, [outcome(*fault) for fault in FAULTS]))
    return 0


def outcome(name: str, batch_faults: str, faults: str) -> list[str]:
    """One line."""
    with tempfile.TemporaryDirectory() as place, Simulator(ocr=False, batch_faults=batch_faults) as simulator:
        simulator.set_faults(faults)
        simulator.change(batch_latency=4.0 if "cancel" in batch_faults else 0.2)
        how = BatchSettings(f"{place}/submitted", Path(place) / "reading", absent=1.0)
        with asking(simulator.url, Path(place), batches=how) as asked:
            under_way = asked.engine.submit(pages_again(IMAGES), attempts=ATTEMPTS)
            _meanwhile(simulator, batch_faults)
            ended = statuses(under_way.result())
        return [name, ", ".join(f"{count} {status}" for status, count in ended.items()), *_sums(simulator, asked)]


def _meanwhile(simulator: Simulator, batch_faults: str) -> None:
    """What somebody else does: cancels a batch, or deletes the results of the first."""
    while "cancel" in batch_faults and simulator.ledger().billed < IMAGES / 2:
        pass
    if "cancel" in batch_faults:
        (batch_id,) = {entry.batch for entry in simulator.ledger().entries}
        headers = {"x-api-key": "key", "anthropic-version": "2023-06-01"}
        address = f"{simulator.url}/v1/messages/batches/{batch_id}/cancel"
        urllib.request.urlopen(urllib.request.Request(address, data=b"", headers=headers)).close()
        simulator.change(batch_latency=0.2)
    while "archived" in batch_faults and simulator.ledger().batches < 2:
        simulator.change(batch_faults="" if simulator.ledger().billed >= IMAGES else "archived")


def _sums(simulator: Simulator, asked: Asked) -> list[str]:
    ledger: Any = simulator.ledger()
    maybe = sum(call["paid"] == "maybe" for call in asked.calls)
    counts = (ledger.batches, ledger.batch_requests, ledger.billed, len(asked.calls), maybe)
    missing = ledger.cost_usd - asked.cost
    return [*map(str, counts), "yes" if not missing else f"${missing} of it maybe paid"]


if __name__ == "__main__":
    sys.exit(main())
