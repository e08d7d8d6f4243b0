"""A comparison that has ended: every variant scored and priced, the choice, and the object that `--json` prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from config.prices import prices_of
from tasks.planning.variants import Comparison, Variant
from tasks.scoring.best_variant import Choice, Contestant, choose
from tasks.scoring.cells import Shape
from tasks.scoring.scores import (
    Key,
    Price1000,
    Row,
    Sheet,
    Spent,
    calibration,
    fields_of,
    figures,
    latency_ms,
    mark,
    mark_each_other,
    price_per_1000,
)
from tasks.text import counted


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
    choice: Choice | None
    """None where there are no labels."""
    results: str

    @property
    def is_whole(self) -> bool:
        """Whether every variant has a score for every image."""
        return all(one.sheet.is_whole for one in self.variants)

    @property
    def images(self) -> int:
        """Files that were compared."""
        return len({image for image, _ in self.keys})

    @property
    def why(self) -> str:
        """The choice in one sentence; without labels, how far the variants agree and what would tell more."""
        if self.choice is not None:
            return self.choice.why
        fields = {name: figures(tallies)["score"] for name, tallies in self._pooled.items()}
        told = {name: score for name, score in fields.items() if score is not None}
        if not told:
            return "No image has two answers, so nothing can be compared."
        least = min(told, key=lambda name: told[name])
        differ, images = len(self.differing), counted(len(self.keys), "image")
        said = f"Without labels nobody knows which answer is right: the variants differ in {differ:,} of {images}"
        if not differ:
            return f"{said}."
        return f"{said}, most in {least} ({100 * told[least]:.1f} % agreement). Label these and give them as --truth."

    @property
    def _pooled(self) -> dict[str, list[Any]]:
        """Each field's tallies of all variants."""
        return {name: [one for each in self.variants for one in each.sheet.fields[name]] for name, _ in self.fields}

    @property
    def differing(self) -> list[int]:
        """Positions of the images where not every variant gave the same right answer; the most wrong first."""
        wrong = [
            sum(one.wrong for each in self.variants if (one := each.sheet.totals[at]) is not None)
            for at in range(len(self.keys))
        ]
        return sorted((at for at, count in enumerate(wrong) if count), key=lambda at: -wrong[at])

    @property
    def summary(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "images": self.images,
            "variants": [self._variant(at) for at in range(len(self.variants))],
            "best": dict(self.variants[self.choice.best].key) if self.choice else None,
            "why": self.why,
            "results": self.results,
        }

    def _variant(self, at: int) -> dict[str, Any]:
        one = self.variants[at]
        described = {
            **one.key,
            **self._figures(one.sheet.totals),
            "failed": one.sheet.failed,
            "cost_usd_per_1000": _dollars(one.price.online),
            "batch_usd_per_1000": _dollars(one.price.batch),
            "latency_ms": one.latency_ms,
            "fields": {name: self._figures(tallies) for name, tallies in one.sheet.fields.items()},
            "run_id": one.run_id,
        }
        if self.choice is None:
            return described
        if (calibrated := calibration(one.sheet)) is not None:
            described["review"] = calibrated.described
        lost = self.choice.losses[at]
        told = {name: round(getattr(lost, name), 6) for name in ("mean", "low", "high", "p")}
        return {**described, "loss": told, "labels_needed": lost.labels_needed}

    def _figures(self, tallies: Any) -> dict[str, Any]:
        """Without labels a score is agreement with the other variants, and says so."""
        told = figures(tallies)
        return told if self.choice else {**told, "score": None, "agreement": told["score"]}


def compare_rows(comparison: Comparison, rows: Sequence[Sequence[Row]], runs: Sequence[Mapping[str, Any]]) -> Compared:
    """Score each variant's rows of `results`, given with the summary of its run, and choose.

    Without labels each variant is held against the others.
    """
    labels = comparison.labels
    by_key = [{(row["image"], row["page"]): row for row in found} for found in rows]
    keys = tuple(sorted(labels if labels is not None else set().union(*by_key)))
    schema = comparison.variants[0].plan.schema
    fields = fields_of(schema.root if schema else None, list(labels.values()) if labels else None)
    if labels is not None:
        sheets = [mark(fields, keys, labels, found) for found in by_key]
    else:
        sheets = mark_each_other(fields, keys, by_key)
    variants = tuple(
        Marked(
            name=comparison.name(variant),
            key=variant.key,
            sheet=sheet,
            price=_price(variant, found, run),
            latency_ms=latency_ms(found),
            run_id=run["run_id"],
        )
        for variant, sheet, found, run in zip(comparison.variants, sheets, rows, runs, strict=True)
    )
    contestants = [Contestant(one.name, one.sheet.scores, one.price.online) for one in variants]
    choice = choose(contestants, comparison.choices.tolerance) if labels is not None else None
    first = comparison.variants[0].plan
    return Compared(comparison, fields, keys, variants, choice, first.output.join(f"results/job={first.names[0]}"))


def _price(variant: Variant, rows: Sequence[Row], run: Mapping[str, Any]) -> Price1000:
    job, endpoint = variant.plan.job, variant.plan.endpoint
    whole = Decimal(str(run["cost_usd"])) + Decimal(str(run["saved_usd"])) if job.verify else None
    return price_per_1000(rows, prices_of(endpoint.prices, job.model), Spent(job.mode == "online", whole))


def _dollars(amount: Any) -> float | None:
    return None if amount is None else round(float(amount), 6)
