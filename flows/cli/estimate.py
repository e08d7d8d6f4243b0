"""`visionflow estimate`: what a run would cost with this model, with every other, online and in batches."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from config.job import Job, job_name
from config.models import listed_models
from config.presets import preset, preset_names
from config.prices import price_table
from flows.cli.printed_tables import print_table
from flows.cli.server import keep_prefect_quiet
from flows.cli.terminal import Terminal
from flows.cli.without_pandas import leave_pandas_out
from tasks.asking.client import Checked
from tasks.asking.probe import counted_prompt
from tasks.errors import EndpointError, OutputError
from tasks.listing import Listing, OnDemand, list_images
from tasks.planning.estimating import (
    Assumed,
    Measured,
    Offer,
    assumed_prompt,
    duplicates,
    make_offer,
    measure_all,
    typical_output,
)
from tasks.planning.plan import chunk_prefix
from tasks.planning.resolving import AGAIN, ResolvedJob, preflight, resolve
from tasks.storage.output import open_output
from tasks.text import counted
from tasks.types import Source

# So many earlier answers of the job tell more of the next than an assumption does.
ENOUGH_ANSWERS = 5
COUNTED = "counted by"


@dataclass(frozen=True)
class Estimate:
    """What there is to ask about, what is assumed, and the offers: the job's own first."""

    listing: Listing
    to_ask: int
    pages: int
    unreadable: int
    kept: int
    kept_usd: Decimal
    duplicates: int
    duplicates_usd: Decimal
    assumed: Assumed
    models: list[Offer]
    presets: list[Offer]
    notices: tuple[str, ...]


def print_estimate(source: str, output: str | None, job: Job, *, as_json: bool) -> None:
    """Estimate and print; StopRun or UsageError where a run would stop too."""
    leave_pandas_out()
    resolved = described(resolve(job))
    with Terminal(quiet=as_json).listing() as progress:
        listing = list_images(source, include=job.include, exclude=job.exclude, limit=job.limit, progress=progress)
    estimate = make_estimate(listing, resolved, output)
    if as_json:
        sys.stdout.write(json.dumps(_as_json(estimate), default=_plain) + "\n")
    else:
        _print(estimate, resolved)


def make_estimate(listing: Listing, resolved: ResolvedJob, output: str | None) -> Estimate:
    """Measure what is left after kept answers and duplicates, and price it."""
    name = resolved.job.name or job_name(listing.source)
    fresh, kept_usd = _fresh(listing, resolved, output)
    repeated = duplicates(fresh)
    again = set(repeated)
    sizes = measure_all(fresh.pick([position for position in range(len(fresh)) if position not in again]))
    measured = [size for size in sizes if size is not None]
    assumed = _assumed(resolved, output, name)
    return Estimate(
        listing=listing,
        to_ask=len(measured),
        pages=sum(size.pages for size in measured),
        unreadable=len(sizes) - len(measured),
        kept=len(listing.images) - len(fresh),
        kept_usd=kept_usd,
        duplicates=len(repeated),
        duplicates_usd=_cost(fresh.pick(repeated), resolved, assumed),
        assumed=assumed,
        models=_by_model(measured, resolved, assumed),
        presets=_by_preset(measured, resolved, assumed),
        notices=resolved.notices,
    )


def described(resolved: ResolvedJob) -> ResolvedJob:
    """The job at the endpoint as it describes itself, with the notices of a run.

    An estimate also works offline and without a key: what would stop a run is a notice here, and nothing else is asked
    of the endpoint then.
    """
    try:
        return resolved.at(preflight(resolved.endpoint, resolved.job))
    except EndpointError as error:
        silent = replace(resolved.endpoint, count_tokens=False)
        resolved = resolved.at(Checked(silent, simulated=False, model_known=False))
        stopped = f"{error} A run would stop here; the estimate goes on without the endpoint."
        return replace(resolved, notices=(*resolved.notices, stopped))


def _cost(sources: Sequence[Source], resolved: ResolvedJob, assumed: Assumed) -> Decimal:
    """What asking the job's question about these files would cost."""
    measured = [size for size in measure_all(sources) if size is not None]
    offer = make_offer(measured, resolved, model=resolved.job.model, preset=resolved.preset, assumed=assumed)
    if offer is None:
        return Decimal(0)
    in_batches = resolved.job.mode == "batch" and offer.batch_usd is not None
    return offer.batch_usd or Decimal(0) if in_batches else offer.online_usd


def _by_model(measured: list[Measured], resolved: ResolvedJob, assumed: Assumed) -> list[Offer]:
    here = {price.model for price in price_table() if price.endpoint == resolved.endpoint.prices}
    others = [name for name in (*listed_models(), *sorted(here)) if name in here and name != resolved.job.model]
    offers = [
        make_offer(measured, resolved, model=model, preset=resolved.preset, assumed=assumed)
        for model in dict.fromkeys([resolved.job.model, *others])
    ]
    return [offer for offer in offers if offer is not None]


def _by_preset(measured: list[Measured], resolved: ResolvedJob, assumed: Assumed) -> list[Offer]:
    """The job's model with each preset; another preset brings its own prompt and its own length of answers."""
    offers = []
    for name in preset_names():
        chosen = preset(name)
        other = Assumed(
            assumed_prompt(chosen.prompt, resolved.job.model), "", Decimal(typical_output(chosen, resolved.schema)), ""
        )
        as_asked = name == resolved.preset.name
        offer = make_offer(
            measured, resolved, model=resolved.job.model, preset=chosen, assumed=assumed if as_asked else other
        )
        offers += [offer] if offer else []
    return offers


def _assumed(resolved: ResolvedJob, output: str | None, name: str) -> Assumed:
    question = resolved.steps[0].question
    counted = counted_prompt(resolved.endpoint, question)
    if counted is not None:
        prompt, prompt_source = Decimal(counted), f"{COUNTED} {resolved.endpoint.base_url}"
    else:
        text = question.prompt + (question.system or "") + (json.dumps(question.schema) if question.schema else "")
        prompt, prompt_source = assumed_prompt(text, question.model), "assumed from the prompt's length"
    learned = _learned_output(resolved, output, name)
    if learned is not None:
        return Assumed(prompt, prompt_source, *learned)
    return Assumed(
        prompt,
        prompt_source,
        Decimal(typical_output(resolved.preset, resolved.schema)),
        "assumed, as no earlier run tells",
    )


def _learned_output(resolved: ResolvedJob, output: str | None, name: str) -> tuple[Decimal, str] | None:
    """Mean output tokens of the job's earlier answers by the same model and preset."""
    if output is None:
        return None
    columns = ["model", "preset", "output_tokens", "cached"]
    try:
        table = open_output(output).read_table(f"results/job={name}", columns=columns)
    except OutputError:  # no earlier run
        return None
    wanted = (resolved.job.model, resolved.preset.name)
    answers = [
        row["output_tokens"]
        for row in table.to_pylist()
        if (row["model"], row["preset"]) == wanted and row["output_tokens"] and not row["cached"]
    ]
    if len(answers) < ENOUGH_ANSWERS:
        return None
    mean = (Decimal(sum(answers)) / len(answers)).quantize(Decimal("0.1"))
    return mean, f"mean of {len(answers):,} earlier answers"


def _fresh(listing: Listing, resolved: ResolvedJob, output: str | None) -> tuple[OnDemand, Decimal]:
    """The files that a run would ask about, and what the answers that it would not ask for again had cost."""
    kept_usd = Decimal(0)
    if output is None or resolved.job.refresh:
        return listing.images, kept_usd
    from tasks.orchestration.chunks import Remaining

    keep_prefect_quiet()
    from tasks.orchestration.store import PrefectStore
    from tasks.storage.records import records_of

    prefix = chunk_prefix(resolved.steps, resolved.rules, resolved.schema, resolved.second, resolved.job.verify_below)
    finished = PrefectStore(records_of(output)).finished(prefix)
    remaining = Remaining(listing.images)
    for rows in finished:
        kept_usd += sum(Decimal(row["kept_usd"]) for row in remaining.take(rows))
    return remaining.left, kept_usd


def _print(estimate: Estimate, resolved: ResolvedJob) -> None:
    terminal = Terminal()
    listing = estimate.listing
    terminal.say("Listed", f"{counted(len(listing.images), 'image')} in {listing.source}")
    if estimate.kept:
        terminal.say("Less", f"{estimate.kept:,} done before: saves ${estimate.kept_usd:.4f}")
    if estimate.duplicates:
        terminal.say("Less", f"{counted(estimate.duplicates, 'duplicate')}: saves ${estimate.duplicates_usd:.4f}")
    if estimate.unreadable:
        terminal.say("Less", f"{estimate.unreadable:,} that cannot be read")
    more = f" ({estimate.pages:,} pages)" if estimate.pages != estimate.to_ask else ""
    terminal.say("To ask", f"{counted(estimate.to_ask, 'image')}{more}, preset {resolved.preset.name}")
    assumed = estimate.assumed
    terminal.say("Prompt", f"{assumed.prompt:,} tokens an image, {assumed.prompt_source}")
    terminal.say("Answer", f"{assumed.output:,} tokens an image, {assumed.output_source}")
    if resolved.job.verify:
        by = "the same model" if resolved.job.verify == AGAIN else resolved.job.verify
        fewer = "" if resolved.job.verify_below is None else "; --verify-below reads fewer"
        terminal.say("Twice", f"every image is read a second time by {by}, which all prices below include{fewer}")
    for notice in estimate.notices:
        terminal.say("Note", notice)
    _print_offers("model", [(offer.model, offer) for offer in estimate.models])
    _print_offers(f"preset, with {resolved.job.model}", [(offer.preset, offer) for offer in estimate.presets])
    for sentence in certainty(assumed, resolved):
        terminal.say("Note" if sentence.startswith("No call") else "", sentence)


def certainty(assumed: Assumed, resolved: ResolvedJob) -> list[str]:
    """What of the estimate is exact, and what is not."""
    exact, rest = "the tokens of the images, by the published rule", "the prompt"
    if assumed.prompt_source.startswith(COUNTED):
        exact += f", and of the prompt with {resolved.job.model} and preset {resolved.preset.name}"
        rest = "the prompt with other models and presets"
    return [
        "No call was paid for.",
        f"Exact: {exact}.",
        f"Assumed: {rest}, and how long the answers are. Repeated calls and fallbacks are not counted.",
    ]


def _print_offers(title: str, offers: list[tuple[str, Offer]]) -> None:
    rows = [
        (
            name,
            f"{offer.input_tokens:,}",
            f"{offer.output_tokens:,}",
            f"${offer.online_usd:,.4f}",
            f"${offer.batch_usd:,.4f}" if offer.batch_usd is not None else "-",
        )
        for name, offer in offers
    ]
    print_table((title,), ("input tokens", "output tokens", "online", "in batches"), rows)


def _as_json(estimate: Estimate) -> dict[str, Any]:
    listing = estimate.listing
    return {
        "source": listing.source,
        "images": len(listing.images),
        "to_ask": estimate.to_ask,
        "pages": estimate.pages,
        "unreadable": estimate.unreadable,
        "kept": estimate.kept,
        "kept_usd": estimate.kept_usd,
        "duplicates": estimate.duplicates,
        "duplicates_usd": estimate.duplicates_usd,
        "assumed": asdict(estimate.assumed),
        "models": [asdict(offer) for offer in estimate.models],
        "presets": [asdict(offer) for offer in estimate.presets],
        "notices": estimate.notices,
    }


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else str(value)
