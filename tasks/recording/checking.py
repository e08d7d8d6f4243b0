"""Verifying what is kept: answers, journals and tables; what is damaged is set aside, and dead runs are taken in.

A run that is alive is never touched: its journal is locked, its parts are whole, and its records are read as they lie.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from config.settings import home
from tasks.asking.answer import Answer
from tasks.asking.leftovers import leftovers, leftovers_in
from tasks.asking.pages import AnswerStore
from tasks.errors import OutputError
from tasks.recording.recovery import NO_ANSWER, complete, write_last_rows
from tasks.recording.rows import are_rows
from tasks.recording.tables import TABLES
from tasks.recording.writer import TableFile, write_table_file
from tasks.storage.output import Output, explained, sound_parts
from tasks.storage.reading import ahead
from tasks.storage.records import Records

READERS = 16


@dataclass
class Findings:
    """How many of each kind were sound, what was mended, and what could not be."""

    sound: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    recovered: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def check_records(records: Records, findings: Findings) -> None:
    """Read every kept answer and finished chunk; what is damaged is set aside with a warning."""
    for kind, prefix, is_good in (("answers", "answers", _is_answer), ("finished batches", "batches", are_rows)):
        try:
            with explained(f"{records.uri}/{prefix}", verb="read"):
                for good in _judged(records, prefix, is_good):
                    (findings.sound if good else findings.damaged)[kind] += 1
        except OutputError as error:
            findings.troubles.append(str(error))


def _judged(records: Records, prefix: str, is_good: Callable[[Any], bool]) -> Iterator[bool]:
    keys = sorted(records.times(prefix))
    with ThreadPoolExecutor(READERS) as readers:
        for key, value in ahead(readers, records.value, keys, READERS):
            kept = value.result()
            if kept is not None and not is_good(kept):
                records.set_aside(key, "what it says cannot be true")
                kept = None
            yield kept is not None


def _is_answer(record: Any) -> bool:
    try:
        Answer.from_record(record)
    except NO_ANSWER:
        return False
    return True


def check_tables(output: Output, findings: Findings) -> None:
    """Read every part of every table to its end; what is damaged is set aside with a warning."""
    for table in TABLES:
        try:
            before = len(output.parts(table))
            for _ in sound_parts(output, table):
                pass
            after = len(output.parts(table))
        except OutputError as error:
            findings.troubles.append(str(error))
            continue
        findings.sound[f"parts of {table}"] += after
        findings.damaged[f"parts of {table}"] += before - after


def recover_all(output: Output, store: AnswerStore, findings: Findings) -> None:
    """Take in every run of this output that ended without notice on this machine, its last calls as `maybe` paid."""
    for job in sorted(_jobs(output)):
        try:
            for left in leftovers(output.uri, job):
                in_flight = complete(output, job, left, store)
                if in_flight:
                    part = TableFile(output, "calls", job, left.run_id, f"part-in-flight-{left.name}.parquet")
                    write_table_file(part, in_flight)
                write_last_rows(output, job, left)
                left.forget()
                findings.recovered.append(f"{job}, run {left.run_id}")
        except OutputError as error:
            findings.troubles.append(str(error))


def _jobs(output: Output) -> set[str]:
    """Every job that has left anything in the output, or a journal on this machine."""
    folders = (part.split("/")[1] for table in TABLES for part in output.list(table) if part.count("/") > 1)
    named = {folder.removeprefix("job=") for folder in folders if folder.startswith("job=")}
    journals = home() / "journal"
    return named | {folder.name.rpartition("-")[0] for folder in journals.glob("*-*") if folder.is_dir()}


def check_journals(findings: Findings) -> None:
    """Count the journals of this machine that wait for their job's next run, and lines in them that say nothing."""
    for folder in sorted((home() / "journal").glob("*-*")):
        for left in leftovers_in([folder]):
            findings.sound["journals of runs that ended without notice"] += 1
            for _ in left.entries():
                pass
            findings.damaged["lines of journals"] += len(left.damaged)
