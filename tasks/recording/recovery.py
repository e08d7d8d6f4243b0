"""Taking in what dead runs left, so that no answer and no paid call is lost, and every run has its bill."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from config.endpoints import endpoint
from tasks.asking.answer import Answer
from tasks.asking.calls import Journal
from tasks.asking.leftovers import Leftover, leftovers
from tasks.asking.pages import AnswerStore
from tasks.billing.bill import TOKENS, Bill, in_yuan
from tasks.recording.reading_back import REQUEST, ended_requests
from tasks.recording.tables import CALLS, STATUSES
from tasks.recording.writer import TableFile, run_folder, to_table, write_table_file
from tasks.storage.output import Output, explained, sound_parts

ANSWERS_AT_ONCE = 500  # answers that are kept again together
NO_ANSWER = (KeyError, TypeError, ValueError, ArithmeticError)

MESSAGE = "Ended without notice, killed or without power; its calls and its bill were completed later."


def recover(output: Output, job: str, journal: Journal, store: AnswerStore, shard: str = "") -> list[dict[str, Any]]:
    """Take in every dead run of this job, and return the calls that were in flight when it died.

    A shard takes in what earlier processes of its own left; the run's last rows are not its to write.

    Those are listed by the run that finds them, as `maybe` paid, with the time they were sent. They pass from the dead
    run's journal into `journal`, so that they are not lost if this run dies too. Raises OutputError.
    """
    maybe: list[dict[str, Any]] = []
    for left in leftovers(output.uri, job, f"{shard}-" if shard else "", journal.name):
        in_flight = complete(output, job, left, store)
        for call in in_flight:
            journal.ended(call)
        maybe += in_flight
        if not shard:
            write_last_rows(output, job, left)
        left.forget()
    return maybe


def complete(output: Output, job: str, left: Leftover, store: AnswerStore) -> list[dict[str, Any]]:
    """Write the calls of a dead run that are in no part yet, and keep its answers. Raises OutputError.

    Returns the calls of which no end is known.
    """
    recorded: set[int | None] = set()
    folder = run_folder("calls", job, left.run_id)
    for part in sound_parts(output, folder, ["call"], of=f"{folder}/part-{left.part}"):
        recorded.update(part.column("call").to_pylist())
    unrecorded, answers = _UnrecordedCalls(recorded), list[tuple[str, dict[str, Any]]]()
    for entry in left.entries():
        unrecorded.add(entry)
        if "answer" in entry:
            answers.append((entry["key"], entry["answer"]))
        if len(answers) >= ANSWERS_AT_ONCE:
            keep_again(store, answers)
            answers = []
    keep_again(store, answers)
    with explained(str(left.paths[0])):
        store.sync()
    rows, in_flight = unrecorded.rows(left)
    rows = _without_listed(output, job, left.run_id, rows)
    if rows:
        part_name = f"part-recovered-{left.name}.parquet"  # a run of several processes leaves several journals
        write_table_file(TableFile(output, "calls", job, left.run_id, part_name), rows)
    return in_flight


def _without_listed(output: Output, job: str, run_id: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows but for those of a batch that a run on another machine has taken in meanwhile."""
    batches = {row["started_at"] for row in rows if row.get("tier") == "batch"}
    known = {
        (moment, *request): by_run
        for moment in batches
        for request, by_run in ended_requests(output, [job], moment, "").items()
    }
    return [row for row in rows if known.get((row["started_at"], *map(row.get, REQUEST)), run_id) == run_id]


class _UnrecordedCalls:
    """What a journal says of calls that are in no table."""

    def __init__(self, recorded: set[int | None]) -> None:
        self._recorded = recorded
        self._sent: dict[int, dict[str, Any]] = {}
        self._ended: list[dict[str, Any]] = []

    def add(self, entry: dict[str, Any]) -> None:
        """One line."""
        if (sent := entry.get("sent")) is not None:
            if sent["call"] not in self._recorded:
                self._sent[sent["call"]] = sent
        elif (ended := entry.get("ended")) is not None:
            if ended["call"] in self._recorded:
                self._sent.pop(ended["call"], None)
            else:
                self._ended.append(ended)

    def rows(self, left: Leftover) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of calls that ended, and of those of which no end is known, which may have been paid.

        An end that cannot be true, as the first release wrote some, is none.
        """
        ended = _rows(self._ended, left)
        for row in ended:
            self._sent.pop(row["call"], None)
        return ended, _rows([{**call, **_UNKNOWN} for call in self._sent.values()], left)


def keep_again(store: AnswerStore, answers: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Keep answers that the store lacks, or has only an older one of. Raises OutputError."""
    newest: dict[str, tuple[Answer, dict[str, Any]]] = {}
    for key, record in answers:
        with suppress(*NO_ANSWER):
            answer = Answer.from_record(record)
            if key not in newest or newest[key][0].answered_at <= answer.answered_at:
                newest[key] = answer, record

    async def keep() -> None:
        await asyncio.gather(*(_keep_newer(store, key, *one) for key, one in newest.items()))

    with explained("answers of a run that ended without notice"):
        asyncio.run(keep())


async def _keep_newer(store: AnswerStore, key: str, answer: Answer, record: dict[str, Any]) -> None:
    kept = await store.get(key)
    with suppress(*NO_ANSWER):
        if kept is not None and Answer.from_record(kept).answered_at >= answer.answered_at:
            return
    await store.put(key, record)


_UNKNOWN = {
    "call": None,  # numbered by the dead run
    "outcome": "unknown",
    "paid": "maybe",
    "error": "In flight when an earlier run of this job ended without notice.",
    "cost_usd": "0",
}


def _rows(calls: list[dict[str, Any]], left: Leftover) -> list[dict[str, Any]]:
    """Rows of the table; what cannot be one is rejected."""
    rows = [_typed(call) for call in calls]
    if None not in rows and _fit(rows):
        return [row for row in rows if row is not None]
    fitting = []
    for call, row in zip(calls, rows, strict=True):
        if row is not None and _fit([row]):
            fitting.append(row)
        else:
            left.reject(call)
    return fitting


def _typed(call: dict[str, Any]) -> dict[str, Any] | None:
    """The call with its time and money; None if it has none."""
    try:
        row = {**call, "started_at": datetime.fromisoformat(call["started_at"])}
        amounts = ((name, row.get(name)) for name in ("cost_usd", "at_most_usd"))
        return row | {name: Decimal(amount) for name, amount in amounts if amount is not None}
    except (KeyError, TypeError, ValueError, InvalidOperation):
        return None


def _fit(rows: list[Any]) -> bool:
    """Whether the table takes them: a figure may be too large, or of another type."""
    try:
        to_table(rows, CALLS)
    except (KeyError, TypeError, ValueError, OverflowError, pa.ArrowException):
        return False
    return True


def write_last_rows(output: Output, job: str, left: Leftover) -> None:
    """Write `costs` and `runs` of a dead run, unless it had done so itself. Raises OutputError."""
    folder = run_folder("runs", job, left.run_id)
    if output.exists(f"{folder}/run.parquet"):
        return
    about = left.about()
    lost = _Lost(about)
    for part in sound_parts(output, run_folder("calls", job, left.run_id)):
        lost.add_calls(part.to_pylist())
    for part in sound_parts(output, run_folder("results", job, left.run_id), _COUNTED):
        lost.add_rows(part.to_pylist())
    bill, rate = lost.bill, lost.cny_per_usd
    costs = bill.rows(cny_per_usd=rate, simulated=lost.simulated)
    write_table_file(TableFile(output, "costs", job, left.run_id, "costs.parquet"), costs)
    began = datetime.fromisoformat(about["started_at"]) if "started_at" in about else lost.first_call
    ended = datetime.fromtimestamp(max(path.stat().st_mtime for path in left.paths), UTC)
    row = {
        **{name: about.get(name) for name in ("source", "settings", "versions")},
        "status": "interrupted",
        "message": MESSAGE,
        "output": output.uri,
        "simulated": lost.simulated,
        "started_at": began,
        "finished_at": ended,
        "seconds": round((ended - began).total_seconds(), 3) if began else None,
        **{name: lost.counts[name] for name in ("images", "rows", *STATUSES, "cached", "duplicates")},
        **{name: bill.total(name) for name in ("calls", *TOKENS)},
        "cost_usd": bill.cost_usd,
        "cost_cny": in_yuan(bill.cost_usd, rate),
    }
    write_table_file(TableFile(output, "runs", job, left.run_id, "run.parquet"), [row])


_COUNTED = ("page", "status", "cached", "duplicate_of", "model", "endpoint", "preset")


class _Lost:
    """Counts what is left of a run; `about` is what its journal says of it, nothing in the first release."""

    def __init__(self, about: dict[str, Any]) -> None:
        self._about = about
        self._bill: Bill | None = None
        self.counts: Counter[str] = Counter()
        self.cny_per_usd = Decimal(about.get("cny_per_usd", "0"))
        self.simulated = bool(about.get("simulated"))
        self.first_call: datetime | None = None

    @property
    def bill(self) -> Bill:
        """By the endpoint that the run asked; of a run that asked nobody, an empty one."""
        return self._bill or Bill(self._about.get("prices", "anthropic"))

    def add_calls(self, calls: list[dict[str, Any]]) -> None:
        for call in calls:
            self._know(call["endpoint"])
            self.bill.add_calls([{**call, **_named(call), "tier": call["tier"] or "standard"}])
            known = [time for time in (self.first_call, call["started_at"]) if time is not None]
            self.first_call = min(known, default=None)

    def add_rows(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._know(row["endpoint"])
            self.bill.add_rows(
                [{**row, **_named(row), "kept_usd": "0"}]
            )  # what kept answers had cost, the tables do not say
            self.counts.update([row["status"], "rows"])
            self.counts["images"] += row["page"] == 1
            self.counts["cached"] += bool(row["cached"])
            self.counts["duplicates"] += bool(row["duplicate_of"])

    def _know(self, identity: str | None) -> None:
        """The first release's journals do not say who was asked; its calls do."""
        if self._bill is not None:
            return
        try:
            where = endpoint(identity or "anthropic")
        except LookupError:  # taken out of the table since
            where = endpoint("anthropic")
        self._bill = Bill(self._about.get("prices", where.prices))
        if "cny_per_usd" not in self._about:
            self.cny_per_usd, self.simulated = where.cny_per_usd, where.name == "simulator"


def _named(row: dict[str, Any]) -> dict[str, str]:
    """What a line of the bill is known by."""
    return {name: row[name] or "unknown" for name in ("model", "endpoint", "preset")}
