"""Running a command as a process of its own, and what it took."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmark.services import ROOT


class BenchmarkError(Exception):
    """A contestant failed, or its rows are wrong: its times would mean nothing."""


@dataclass(frozen=True)
class Measured:
    """One process from its start to its end. CPU is of it and its children; memory of the largest of them, in bytes."""

    started: float  # seconds since the epoch
    wall_s: float
    cpu_s: float
    peak_bytes: int
    status: int
    out: str


def measure(command: Sequence[object], environment: Mapping[str, str], log: Path, *, seconds: float) -> Measured:
    """Run the command to its end; one that takes longer than `seconds` is killed."""
    report = log.with_suffix(".json")
    launch = [sys.executable, "-S", str(Path(__file__).with_name("launch.py")), str(report), str(seconds)]
    with log.open("wb") as output, log.with_suffix(".err").open("wb") as errors:
        subprocess.run(
            [*launch, sys.executable, *map(str, command)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            check=True,
        )
    return Measured(**json.loads(report.read_text(encoding="utf-8")), out=log.read_text(encoding="utf-8"))


def spread(values: Sequence[float], digits: int = 1) -> str:
    """`median (least-most)`, or the value where there is one."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table: the first column to the left, figures to the right."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])
