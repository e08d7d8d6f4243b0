"""Distributions and timelines as geometry; the template draws them.

Every chart is 1000 wide and 100 high and stretched to its place; the words around it are HTML and keep their size.
"""

from dataclasses import dataclass, field
from math import ceil, floor, log10

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

WIDTH, HEIGHT = 1000.0, 100.0
LONG_STEPS = (15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)  # seconds

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: its rectangle in the drawing, and how many values lie between `low` and `high`."""

    x: float
    y: float
    width: float
    height: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the x axis: where, in percent, and its value."""

    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Latencies in seconds; the last bar holds all that is longer, if `open_ended`."""

    bars: list[Bar]
    ticks: list[Tick]
    highest: int
    open_ended: bool
    quantiles: dict[str, float]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A quantity over the seconds of a run, as an SVG path as high as its peak; `marks` are the moments of brakes."""

    path: str
    ticks: list[Tick]
    peak: float
    mean: float
    marks: list[float] = field(default_factory=list)


def histogram(milliseconds: pa.ChunkedArray) -> Histogram | None:
    """How latencies are distributed; None without any."""
    values = np.asarray(pc.drop_null(milliseconds), dtype=np.float64) / 1000
    if not values.size:
        return None
    names = {"median": 50, "95th percentile": 95, "99th percentile": 99, "longest": 100}
    quantiles = {name: float(np.percentile(values, percent)) for name, percent in names.items()}
    # One call that hung must not press all others into the first bar.
    end = min(quantiles["longest"], quantiles["99th percentile"] * 1.5) or 1.0
    width = nice_step(end, 60 if values.size > 200 else 20)
    number = floor(end / width) + 1
    counts = np.bincount(np.minimum((values / width).astype(np.int64), number - 1), minlength=number)
    highest, slot = int(counts.max()), WIDTH / number
    bars = [
        Bar(i * slot, HEIGHT * (1 - n / highest), slot, HEIGHT * n / highest, i * width, (i + 1) * width, int(n))
        for i, n in enumerate(counts)
        if n
    ]
    open_ended = quantiles["longest"] >= number * width
    return Histogram(bars, axis(number * width), highest, open_ended, quantiles)


def in_flight(calls: pa.Table) -> Timeline | None:
    """Calls under way: the mean of each slice of time, so that the area is true; None without calls."""
    starts, ends = spans(calls)
    if not starts.size:
        return None
    origin = starts[0]
    edges = slices(origin, ends[-1], starts.size)
    values = np.diff(waited(starts, edges) - waited(ends, edges)) / np.diff(edges)
    braked = np.isin(np.asarray(pc.fill_null(calls["http_status"], 0)), (429, 529))
    moments = np.unique(np.searchsorted(edges, seconds(calls["started_at"].filter(pa.array(braked)))))
    marks = [100.0 * float(max(moment, 1) - 0.5) / (edges.size - 1) for moment in moments]
    return timeline(values, edges, peak=float(peak(starts, ends)), marks=marks)


def answered(calls: pa.Table) -> Timeline | None:
    """Answers a second, over the same time as `in_flight`; None without any answer."""
    starts, ends = spans(calls)
    arrived = spans(calls.filter(was_answered(calls)))[1]
    if not arrived.size:
        return None
    edges = slices(starts[0], ends[-1], starts.size)
    counts, _ = np.histogram(arrived, edges)
    values = counts / np.diff(edges)
    return timeline(values, edges, peak=float(values.max()), marks=[])


def was_answered(calls: pa.Table) -> pa.ChunkedArray:
    """For each call, whether an answer came."""
    return pc.equal(calls["outcome"], "answered")


def seconds(times: pa.ChunkedArray) -> Floats:
    """Seconds since 1970 of timestamps in microseconds."""
    microseconds: Floats = np.asarray(pc.cast(times, pa.int64()), dtype=np.float64)
    return microseconds / 1e6


def spans(calls: pa.Table) -> tuple[Floats, Floats]:
    """Start and end of the calls that have both, each sorted, in seconds."""
    timed = calls.select(["started_at", "latency_ms"]).drop_null()
    starts = seconds(timed["started_at"])
    return np.sort(starts), np.sort(starts + np.asarray(timed["latency_ms"], dtype=np.float64) / 1000)


def slices(start: float, end: float, events: int) -> Floats:
    """The edges of equal slices of time, few enough that a slice holds several events."""
    number = min(max(events // 8, 12), 160)
    return np.linspace(start, max(end, start + 0.001), number + 1)


def waited(moments: Floats, edges: Floats) -> Floats:
    """For each edge, the time since every earlier moment, summed."""
    before = np.searchsorted(moments, edges)
    sums = np.concatenate(([0.0], np.cumsum(moments - edges[0])))
    since: Floats = before * (edges - edges[0]) - sums[before]
    return since


def peak(starts: Floats, ends: Floats) -> int:
    """Most calls under way at one moment."""
    return int((np.arange(1, starts.size + 1) - np.searchsorted(ends, starts, side="right")).max())


def timeline(values: Floats, edges: Floats, *, peak: float, marks: list[float]) -> Timeline:
    """The drawing of one value for each slice of time."""
    top = max(peak, 1e-9)
    slot = WIDTH / values.size
    steps = [f"V{HEIGHT * (1 - value / top):.2f}H{(i + 1) * slot:.2f}" for i, value in enumerate(values)]
    path = f"M0 {HEIGHT:.0f}{''.join(steps)}V{HEIGHT:.0f}Z"
    return Timeline(path, axis(float(edges[-1] - edges[0])), peak, float(values.mean()), marks)


def axis(end: float) -> list[Tick]:
    """About five round times from 0 to the end; the last one keeps off the edge, where its text would be cut."""
    step = next((step for step in LONG_STEPS if step >= end / 5), LONG_STEPS[-1]) if end > 50 else nice_step(end, 5)
    return [Tick(100 * i * step / end, i * step) for i in range(ceil(0.97 * end / step))]


def nice_step(end: float, parts: int) -> float:
    """The smallest of 1, 2, 5, 10, ... that divides `end` into at most `parts`."""
    rough = end / parts
    power = 10.0 ** floor(log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
