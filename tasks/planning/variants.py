"""The plan of a comparison: a run's plan for every variant, over the same images, and labels that fit all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import product
from typing import Any

from config.job import Choices, Job, job_name
from tasks.errors import UsageError
from tasks.labelling.truth import Truth, fit_truth, read_truth
from tasks.listing import Images, Listing, Progress
from tasks.listing.kinds import NameFilter
from tasks.planning.estimating import cost_by_sample, measured_sample
from tasks.planning.plan import Plan, make_plan, new_run_id, plan_of
from tasks.planning.resolving import preflight, resolve

Labels = Mapping[tuple[str, int], Mapping[str, Any]]  # by image and page
ENDING = "-compare"  # of the job's name, so that a production job's tables hold no runs of other models


@dataclass(frozen=True)
class Variant:
    """One model, preset and prompt; `prompt` is None where it is the job's or the preset's own."""

    model: str
    preset: str
    prompt: str | None
    plan: Plan = field(repr=False)

    @property
    def key(self) -> dict[str, str | None]:
        """What tells it from others."""
        return {"model": self.model, "preset": self.preset, "prompt": self.prompt}


@dataclass(frozen=True)
class Comparison:
    """Everything that is known before the first paid call; `labels` are None where there is no truth."""

    run_id: str
    variants: tuple[Variant, ...]
    labels: Labels | None
    source_images: int
    """Images of SOURCE, with a label or without."""
    choices: Choices

    @property
    def listing(self) -> Listing:
        """The images that are asked about."""
        return self.variants[0].plan.listing

    def name(self, variant: Variant) -> str:
        """The variant for people: its model, and what else differs between the variants."""
        parts = [variant.model]
        if len({one.preset for one in self.variants}) > 1:
            parts.append(variant.preset)
        prompts = list(dict.fromkeys(one.prompt for one in self.variants))
        if len(prompts) > 1:
            parts.append(f"prompt {prompts.index(variant.prompt) + 1}")
        return " ".join(parts)

    def estimates(self) -> list[Decimal | None]:
        """About what each variant costs online, were no answer kept; None without a price."""
        sample = measured_sample(self.listing.images)
        return [cost_by_sample(one.plan, sample, len(self.listing.images)) for one in self.variants]


def plan_comparison(
    source: str, output: str, job: Job, choices: Choices, progress: Progress | None = None
) -> Comparison:
    """Resolve and check every variant and every label; UsageError or a StopRun says what is wrong."""
    written = read_truth(choices.truth) if choices.truth else None
    name = job.name or f"{job_name(source)[: 60 - len(ENDING)]}{ENDING}"
    # Rows that fail are what is to be found out.
    jobs = _jobs(job.model_copy(update={"name": name, "max_failed": 1.0}), choices)
    if written is None and len(jobs) < 2:
        raise UsageError("Nothing to compare with: give --truth FILE, or a second --model, --preset or --prompt.")
    # Labels are matched with all there is, so that one of no image is noticed; what is left out is left out after that.
    everything = {"limit": None, "include": (), "exclude": ()} if written is not None else {}
    first = make_plan(source, output, jobs[0].model_copy(update=everything), progress)
    plans = [replace(first, job=jobs[0]), *(_beside(first, other) for other in jobs[1:])]
    listing, labels = first.listing, None
    for plan in plans if written is not None else ():  # presets may bring schemas of their own
        root = plan.schema.root if plan.schema else None
        truth = fit_truth(written or [], first.listing.images, root, choices.truth or "")
        listing = _labelled(first.listing, truth, job)
        asked = set(listing.images.uris())
        labels = {key: label for key, label in truth.labels.items() if key[0] in asked}
    variants = tuple(
        Variant(plan.job.model, plan.job.preset, plan.job.prompt if choices.prompts else None, plan)
        for plan in (replace(plan, listing=listing) for plan in plans)
    )
    _check_comparable(variants)
    return Comparison(new_run_id(), variants, labels, len(first.listing.images), choices)


def _labelled(listing: Listing, truth: Truth, job: Job) -> Listing:
    """The images that have a label and are wanted by the job's limit and globs. Raises UsageError where none is."""
    wanted = NameFilter(job.include, job.exclude)
    images = [image for image in listing.images.at(truth.positions) if wanted(image.name)]
    if not images:
        raise UsageError("No labelled image is left after --include and --exclude. Check the globs.")
    return replace(listing, images=Images.of(images[: job.limit]))


def _check_comparable(variants: Sequence[Variant]) -> None:
    """Presets may bring schemas of their own; answers of different types have no fields in common."""
    schemas = {variant.plan.schema.digest if variant.plan.schema else None: variant for variant in variants}
    if len(schemas) > 1:
        first, second, *_ = schemas.values()
        raise UsageError(
            f"The presets {first.preset} and {second.preset} ask for different answers. Give --schema for all of them."
        )


def _jobs(job: Job, choices: Choices) -> list[Job]:
    """The job of every variant, each once."""
    keys = product(choices.models or (job.model,), choices.presets or (job.preset,), choices.prompts or (job.prompt,))
    return [
        job.model_copy(update={"model": model, "preset": preset, "prompt": prompt})
        for model, preset, prompt in dict.fromkeys(keys)
    ]


def _beside(plan: Plan, job: Job) -> Plan:
    """The plan of another job over the same images."""
    resolved = resolve(job)
    checked = preflight(resolved.endpoint, job)
    return plan_of(plan.listing, plan.output, resolved.at(checked), checked)


def with_cap(plan: Plan, left: Decimal | None) -> Plan:
    """The plan with what earlier variants left of the cap."""
    return plan if left is None else replace(plan, job=plan.job.model_copy(update={"max_cost": left}))


def unlabelled(comparison: Comparison) -> int:
    """Images of SOURCE that are not asked about, as they have no label."""
    return comparison.source_images - len(comparison.listing.images)
