"""A comparison that has ended: every variant scored and priced, the choice, and the object that `--json` prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from config.prices import prices_of
from tasks.planning.comparing import Comparison, keys_of
from tasks.scoring.choosing import Choice, Contestant, choose
from tasks.scoring.scores import (
    Key,
    Price1000,
    Row,
    Sheet,
    fields_of,
    figures,
    latency_ms,
    mark,
    price_per_1000,
)
from tasks.scoring.shapes import Shape


@dataclass(frozen=True)
class Marked:
    """One variant's sheet, and what a thousand images cost and take with it."""

    name: str
    key: Mapping[str, str | None]
    sheet: Sheet = field(repr=False)
    price: Price1000
    latency_ms: int | None
    run_id: str


@dataclass(frozen=True)
class Compared:
    """All that a comparison came to."""

    comparison: Comparison
    fields: tuple[tuple[str, Shape], ...]
    keys: tuple[Key, ...]
    variants: tuple[Marked, ...]
    choice: Choice
    results: str

    @property
    def is_whole(self) -> bool:
        """Whether every variant has a score for every image."""
        return all(one.sheet.is_whole for one in self.variants)

    @property
    def summary(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "images": len({image for image, _ in self.keys}),
            "variants": [self._variant(at) for at in range(len(self.variants))],
            "best": dict(self.variants[self.choice.best].key),
            "why": self.choice.why,
            "results": self.results,
        }

    def _variant(self, at: int) -> dict[str, Any]:
        one, lost = self.variants[at], self.choice.losses[at]
        return {
            **one.key,
            **figures(one.sheet.totals),
            "failed": one.sheet.failed,
            "cost_usd_per_1000": _dollars(one.price.online),
            "batch_usd_per_1000": _dollars(one.price.batch),
            "latency_ms": one.latency_ms,
            "fields": {name: figures(tallies) for name, tallies in one.sheet.fields.items()},
            "loss": {name: round(getattr(lost, name), 6) for name in ("mean", "low", "high", "p")},
            "labels_needed": lost.labels_needed,
            "run_id": one.run_id,
        }


def compare_rows(comparison: Comparison, rows: Sequence[Sequence[Row]], runs: Sequence[Mapping[str, Any]]) -> Compared:
    """Score each variant's rows of `results`, given with the summary of its run, and choose."""
    labels = comparison.labels or {}
    keys = tuple(keys_of(labels))
    schema = comparison.variants[0].plan.schema
    fields = fields_of(schema.root if schema else None, list(labels.values()))
    variants = []
    for variant, found, run in zip(comparison.variants, rows, runs, strict=True):
        plan = variant.plan
        by_key = {(row["image"], row["page"]): row for row in found}
        variants.append(
            Marked(
                name=comparison.name(variant),
                key=variant.key,
                sheet=mark(fields, keys, labels, by_key),
                price=price_per_1000(
                    found, prices_of(plan.endpoint.prices, plan.job.model), paid_online=plan.job.mode == "online"
                ),
                latency_ms=latency_ms(found),
                run_id=run["run_id"],
            )
        )
    contestants = [Contestant(one.name, one.sheet.scores, one.price.online) for one in variants]
    choice = choose(contestants, comparison.tolerance)
    first = comparison.variants[0].plan
    results = first.output.join(f"results/job={first.names[0]}")
    return Compared(comparison, fields, keys, tuple(variants), choice, results)


def _dollars(amount: Any) -> float | None:
    return None if amount is None else round(float(amount), 6)
