"""What a fleet's run is, frozen in its output: the job as planned, and the images of each shard.

.visionflow/fleet/JOB/open.json                   the run that is under way, and the command that began it
.visionflow/fleet/JOB/RUN_ID/plan.json            what it is
                             images-001.parquet   what the first shard has to ask about
                             share-001.json       what it is told; report-001-0.json: what its first process tells
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np

from config.job import Job
from tasks.errors import BusyError, StopRun
from tasks.listing import Images, Listing
from tasks.orchestration.context import RunContext
from tasks.orchestration.fleet.granting import Whole
from tasks.orchestration.fleet.reports import Report, Share
from tasks.orchestration.invoker import Todo
from tasks.planning.caps import cap_of
from tasks.planning.plan import Part, Plan, plan_of, resolve_at
from tasks.storage.output import Output, explained, open_output
from tasks.storage.records import FOLDER, opened
from tasks.types import Source

DEFAULT_SHARDS = 2
# A photo of 3 MB takes about as long to decode as a call takes of the time of one slot: some 80 ms.
BYTES_A_CALL = 3_000_000


@dataclass(frozen=True)
class Manifest:
    """The frozen run, as every process of its fleet reads it."""

    output: Output
    job_name: str
    run_id: str

    @cached_property
    def facts(self) -> dict[str, Any]:
        """`plan.json`. Raises OutputError."""
        facts = self.read("plan.json")
        if facts is None:
            raise StopRun(f"There is no run {self.run_id} of a fleet in {self.output.uri}. Run the command again.")
        return facts

    @property
    def shards(self) -> int:
        """How many there are."""
        return int(self.facts["shards"])

    @property
    def parts(self) -> int:
        """Parts of `results` that the parent had written when the fleet began."""
        return int(self.facts["parts"])

    @property
    def whole(self) -> Whole:
        """The run's limits."""
        job, cap = Job.model_validate(self.facts["job"]), self.facts["max_cost"]
        return Whole(job.concurrency, job.calls_per_second, None if cap is None else Decimal(cap))

    def images(self, number: int) -> Images:
        """What a shard has to ask about. Raises OutputError."""
        return Images.of_table(_table(self.output, f"{self.folder}/images-{number:03}.parquet"))

    def plan(self, part: Part) -> Plan:
        """A shard's plan, resolved on this machine. StopRun if the machine would ask something else."""
        facts = self.facts
        listing = Listing(facts["source"], self.images(part.number))
        names, job = tuple(facts["names"]), Job.model_validate(facts["job"])
        asked, checked = resolve_at(self.output, job)
        planned = plan_of(listing, self.output, asked, checked)
        plan = replace(planned, run_id=self.run_id, names=names, part=part)
        if _identity(plan) != facts["identity"]:
            raise StopRun(
                f"This worker would ask {plan.endpoint.identity} something else than the run {self.run_id} was planned "
                "for. Give it the same version, ANTHROPIC_BASE_URL and VISIONFLOW_CONFIG as the machine that began it."
            )
        return plan

    def share(self, number: int) -> Share | None:
        """What a shard was told last."""
        return Share.read(self.read(f"share-{number:03}.json"))

    def tell(self, number: int, share: Share) -> None:
        """Tell a shard. Raises OutputError."""
        self.write(f"share-{number:03}.json", share.json)

    def report(self, part: Part) -> Report | None:
        """What a process of a shard has told last."""
        return Report.read(self.read(f"report-{part.tag}.json"))

    def note(self, part: Part, report: Report) -> None:
        """A process tells how far it is. Raises OutputError."""
        self.write(f"report-{part.tag}.json", report.json)

    def check_unfinished(self, part: Part) -> None:
        """BusyError if another process of the shard was started since, or it or the parent has done its work."""
        told = self.share(part.number)
        if told is not None and told.attempt > part.attempt:
            raise BusyError(
                f"Shard {part.number} of run {self.run_id} was started again since: another process has it."
            )
        for attempt in range(part.attempt + 1):
            report = self.report(Part(part.number, attempt))
            if report and report.ended and (report.ended != "interrupted" or attempt == part.attempt):
                raise BusyError(f"Shard {part.number} of run {self.run_id} has ended: nothing is left to do.")

    def read(self, name: str) -> dict[str, Any] | None:
        """A file of the run. Raises OutputError."""
        return _read(self.output, f"{self.folder}/{name}")

    def write(self, name: str, facts: dict[str, Any]) -> None:
        """Write one, whole or not at all. Raises OutputError."""
        self.output.write_bytes(f"{self.folder}/{name}", json.dumps(facts).encode())

    @property
    def folder(self) -> str:
        """Where its files lie, relative to the output."""
        return f"{_place(self.job_name)}/{self.run_id}"


def freeze(run: RunContext, todo: Todo) -> Manifest:
    """Write down what is to do, before any of it is begun: from now on the run can be gone on with. OutputError."""
    plan = run.plan
    run.recorder.flush()
    slices = cut(todo.images, min(plan.job.shards or DEFAULT_SHARDS, plan.job.concurrency))
    manifest = Manifest(plan.output, plan.names[0], plan.run_id)
    for number, images in enumerate(slices, 1):
        plan.output.write_table(f"{manifest.folder}/images-{number:03}.parquet", Images.of(list(images)).table)
    recorder, cap = run.recorder, cap_of(plan)
    done = Report(0, figures=recorder.own, bill=recorder.bill.of_rows, ended="completed")
    manifest.note(Part(0, 0), done)
    facts = {
        "run_id": plan.run_id,
        "names": plan.names,
        "source": plan.listing.source,
        "job": plan.job.model_dump(mode="json", by_alias=True),
        "shards": len(slices),
        "parts": recorder.parts,
        "max_cost": str(cap.dollars) if cap else None,
        "identity": _identity(plan),
    }
    manifest.write("plan.json", facts)
    _point(plan, {"run_id": plan.run_id, "attempt": 0, "command": command(plan)})
    return manifest


def gone_on_with(plan: Plan) -> Plan:
    """The run that the same command has begun, if its parent ended before it; else the plan as it is.

    BusyError if another command has one under way. Raises OutputError.
    """
    found = _read(plan.output, f"{_place(plan.names[0])}/open.json")
    if not found or not found.get("run_id"):
        return plan
    if found["command"] != command(plan):
        raise BusyError(
            f"The fleet of run {found['run_id']}, begun by another command, is not finished in {plan.output.uri}. "
            "Run that command again, or name another --name."
        )
    manifest = Manifest(plan.output, plan.names[0], found["run_id"])
    attempt = int(found["attempt"]) + 1
    _point(plan, {**found, "attempt": attempt})
    everything = chain.from_iterable(manifest.images(number) for number in range(1, manifest.shards + 1))
    listing = Listing(plan.listing.source, Images.of(list(everything)))
    names = tuple(manifest.facts["names"])
    return replace(plan, run_id=manifest.run_id, names=names, part=Part(0, attempt), listing=listing)


def close(plan: Plan) -> None:
    """The run is over, and its tables are written. Raises OutputError."""
    _point(plan, {})


def manifest_of(output: str, job: str, run_id: str) -> Manifest:
    """The manifest that a shard was started for."""
    return Manifest(open_output(output), job, run_id)


def cut(images: Sequence[Source], most: int) -> list[Sequence[Source]]:
    """Neighbours together, alike in work: calls to make and bytes to prepare."""
    work = np.fromiter((1 + image.size / BYTES_A_CALL for image in images), np.float64, len(images))
    parts = min(most, len(images))
    if not parts:
        return []
    middles = work.cumsum() - work / 2
    ends = np.searchsorted(middles, work.sum() * np.arange(1, parts) / parts).tolist()
    bounds = [0, *ends, len(images)]
    return [images[start:end] for start, end in pairwise(bounds) if end > start]


def command(plan: Plan) -> str:
    """What the same command is known by."""
    job = plan.job.model_dump(mode="json", by_alias=True, exclude={"shards"})
    return json.dumps([plan.listing.source, job], sort_keys=True)


def todo_of(run: RunContext) -> Todo:
    """All that the shards of a run that is gone on with had to do; what was done before is in its tables."""
    plan = run.plan
    before = Manifest(plan.output, plan.names[0], plan.run_id).report(Part(0, 0))
    run.recorder.shards[0] = before or Report(0)
    return Todo(plan.listing.images, run.recorder.images, None)


def _identity(plan: Plan) -> list[str]:
    """What all processes must have alike."""
    return [plan.chunk_prefix, plan.endpoint.identity, plan.endpoint.prices]


def _place(job: str) -> str:
    return f"{FOLDER}/fleet/{job}"


def _point(plan: Plan, facts: dict[str, Any]) -> None:
    plan.output.write_bytes(f"{_place(plan.names[0])}/open.json", json.dumps(facts).encode())


def _read(output: Output, relative: str) -> dict[str, Any] | None:
    with explained(output.join(relative), verb="read"):
        try:
            facts = json.loads(opened(output.uri).read(relative))
        except (FileNotFoundError, ValueError):  # none, or none of ours
            return None
    return facts if isinstance(facts, dict) else None


def _table(output: Output, relative: str) -> Any:
    import pyarrow.parquet as pq
    from pyarrow import BufferReader

    with explained(output.join(relative), verb="read"):
        return pq.read_table(BufferReader(opened(output.uri).read(relative)))
