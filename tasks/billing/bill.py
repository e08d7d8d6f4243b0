"""The bill of a run: what was paid per model, endpoint, preset and tier, and what was saved, in exact decimals."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from config.prices import prices_of
from tasks.billing.pricing import cost_usd, uncached_cost
from tasks.billing.usage import Usage
from tasks.errors import OutputError
from tasks.storage.output import Output, sound_parts

Key = tuple[str, str, str, str]  # model, endpoint, preset, tier
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
SAVINGS = ("saved_kept_usd", "saved_duplicates_usd", "saved_caching_usd", "saved_batch_usd")


@dataclass
class Line:
    """One line of the bill."""

    counts: Counter[str] = field(default_factory=Counter)
    cost_usd: Decimal = Decimal(0)
    saved: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(SAVINGS, Decimal(0)))


@dataclass
class Bill:
    """Adds up calls and rows as they come; its size does not grow with their number."""

    prices: str
    tier: str = "standard"
    """On which lines images are counted: that of the run's own calls."""
    lines: dict[Key, Line] = field(default_factory=dict)

    def add_calls(self, calls: Iterable[dict[str, Any]]) -> None:
        """Count calls of this run, as they stand in `calls`."""
        for call in calls:
            line = self._line(call, call["tier"])
            line.counts["calls"] += 1
            line.counts["calls_maybe_paid"] += call["paid"] == "maybe"
            line.counts.update({name: call.get(name) or 0 for name in TOKENS})
            line.cost_usd += call["cost_usd"]
            for name, saved in self._saved(call).items():
                line.saved[name] += saved

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Count rows of `results`, before they are typed: what they did not cost again."""
        for row in rows:
            line = self._line(row, self.tier)
            line.counts["images"] += row["page"] == 1
            for answer in (row, row.get("second")):  # both readings of the image
                if answer and answer["cached"]:
                    line.saved["saved_kept_usd"] += Decimal(answer["kept_usd"])
                elif answer and answer.get("duplicate_of"):
                    line.saved["saved_duplicates_usd"] += Decimal(answer["kept_usd"])

    @property
    def of_rows(self) -> list[list[Any]]:
        """What `add_rows` has counted, as JSON for `add_rows_of`."""
        return [
            [*key, line.counts["images"], str(line.saved["saved_kept_usd"]), str(line.saved["saved_duplicates_usd"])]
            for key, line in self.lines.items()
        ]

    def add_rows_of(self, counted: Iterable[Iterable[Any]]) -> None:
        """Count rows that another process of the run has."""
        for model, endpoint, preset, tier, images, kept, duplicates in counted:
            line = self.lines.setdefault((model, endpoint, preset, tier), Line())
            line.counts["images"] += images
            line.saved["saved_kept_usd"] += Decimal(kept)
            line.saved["saved_duplicates_usd"] += Decimal(duplicates)

    @property
    def cost_usd(self) -> Decimal:
        """What the run paid."""
        return sum((line.cost_usd for line in self.lines.values()), Decimal(0))

    def total(self, count: str) -> int:
        """A count over all lines: calls, calls_maybe_paid, images, or a class of tokens."""
        return sum(line.counts[count] for line in self.lines.values())

    def rows(self, *, cny_per_usd: Decimal, simulated: bool) -> list[dict[str, Any]]:
        """The rows of the `costs` table."""
        return [self._row(key, line, cny_per_usd, simulated) for key, line in sorted(self.lines.items())]

    def _row(self, key: Key, line: Line, cny_per_usd: Decimal, simulated: bool) -> dict[str, Any]:
        model, endpoint, preset, tier = key
        prices = prices_of(self.prices, model)
        return {
            "model": model,
            "endpoint": endpoint,
            "preset": preset,
            "tier": tier,
            **{name: line.counts[name] for name in ("calls", "calls_maybe_paid", "images", *TOKENS)},
            "cost_usd": line.cost_usd,
            "cost_cny": in_yuan(line.cost_usd, cny_per_usd),
            "cny_per_usd": cny_per_usd,
            **line.saved,
            "price_source": prices[0].source if prices else None,
            "price_checked": prices[0].checked if prices else None,
            "simulated": simulated,
        }

    def _line(self, row: dict[str, Any], tier: str) -> Line:
        return self.lines.setdefault((row["model"], row["endpoint"], row["preset"], tier), Line())

    def _saved(self, call: dict[str, Any]) -> dict[str, Decimal]:
        """By caching and by batch; nothing where the call itself has no known price.

        Negative for a call that only wrote to the cache.
        """
        batch = call["tier"] == "batch"
        cached = call.get("cache_read_tokens") or call.get("cache_write_tokens")
        prices = prices_of(self.prices, call["model"])
        if not (cached or batch) or not prices or call["paid"] != "yes":
            return {}
        usage = Usage(
            input=call["input_tokens"],
            output=call["output_tokens"],
            cache_read=call["cache_read_tokens"],
            cache_write_5m=call["cache_write_5m_tokens"],
            cache_write_1h=call["cache_write_1h_tokens"],
            geo=call["inference_geo"],
        )
        cost: Decimal = call["cost_usd"]
        saved = {"saved_caching_usd": uncached_cost(usage, prices, batch=batch) - cost} if cached else {}
        return {**saved, "saved_batch_usd": cost_usd(usage, prices) - cost} if batch else saved


def spent_today(output: Output, job: str | None = None) -> Decimal:
    """US dollars of the calls of this job, or of all, that were sent today (UTC), by runs of today or yesterday.

    As a cap counts them: a call that may have been paid, with the most that it can have cost.
    """
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = f"{midnight - timedelta(days=1):%Y%m%d}"
    return _spent(output, job, lambda run: run >= yesterday, since=midnight)


def spent_by_attempts(output: Output, job: str, ending: str) -> Decimal:
    """The same for the runs of this job whose ids end so: earlier attempts of one flow run."""
    return _spent(output, job, lambda run: run.endswith(f"-{ending}"))


def _spent(output: Output, job: str | None, counts: Callable[[str], bool], since: datetime | None = None) -> Decimal:
    spent = Decimal(0)
    for name in output.parts(f"calls/job={job}" if job else "calls"):
        if counts(name.split("/")[2].removeprefix("run=")):
            try:
                for part in sound_parts(output, name, ["started_at", "cost_usd", "at_most_usd"]):
                    counted = (call for call in part.to_pylist() if since is None or call["started_at"] >= since)
                    spent += sum(map(_most, counted))
            except (KeyError, TypeError):  # a cap that overlooks it could be passed
                raise OutputError(
                    f"{output.join(name)} is no table of calls as visionflow writes it, and a cap counts what was "
                    "spent before. Move it out of the output, then run again."
                ) from None
    return spent


def _most(call: dict[str, Any]) -> Decimal:
    """What a call can have cost; parts of the first release do not say it of one that was maybe paid."""
    cost: Decimal = call["cost_usd"]
    return max(cost, call.get("at_most_usd") or Decimal(0))


def in_yuan(usd: Decimal, cny_per_usd: Decimal) -> Decimal:
    """Yuan, to a billionth."""
    return (usd * cny_per_usd).quantize(Decimal("0.000000001"))
