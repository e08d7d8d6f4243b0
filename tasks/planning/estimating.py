"""What a run would cost, before the first paid call.

Exact: how large each image is sent, from its header, and how many tokens it has, by the published rule. The prompt is
counted by the endpoint where it can, else assumed. The answers are learned from earlier runs of the job where there are
any, else assumed.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from config.job import Job
from config.models import VISION_TIERS, model_facts
from config.presets import Preset
from config.prices import Price, prices_of
from tasks.billing.pricing import cost_usd, price_for
from tasks.billing.usage import Usage, image_tokens
from tasks.errors import ImageError, StopRun
from tasks.listing import any_on_s3
from tasks.planning.plan import Plan
from tasks.planning.resolving import ResolvedJob, image_rules, second_reader
from tasks.preparing import image_header, planned_size
from tasks.preparing.threads import HANGS, HUNG_S, PrepareThreads
from tasks.schemas import AnswerSchema
from tasks.schemas.boxes import TOKENS as EVIDENCE_TOKENS
from tasks.storage.reading import SourceUnavailable, read_source
from tasks.storage.s3 import is_s3
from tasks.types import ImageRules, Source

HEADER_BYTES = (65_536, 1_048_576, 200_000_000)  # read on only while the header lies beyond
# A file without its format's end mark in its last bytes was cut short, and will not be sent.
END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
TAIL_BYTES = 4096
TOGETHER = 10_000  # files given to the readers at a time
SAMPLE = 48  # headers read to say about what a run will cost
CHARACTERS_A_TOKEN = 4
HIGH_TIER_TEXT = Decimal("1.3")  # newer models count some 30 % more tokens for the same text
REQUEST_OVERHEAD = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """One file: pages and size in pixels, after its orientation, and its format."""

    width: int
    height: int
    pages: int = 1
    format: str = ""


@dataclass(frozen=True, slots=True)
class Assumed:
    """Tokens per image besides the image itself, and where the figures come from."""

    prompt: Decimal
    prompt_source: str
    output: Decimal
    output_source: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What all images would cost with one model and preset."""

    model: str
    preset: str
    input_tokens: int
    output_tokens: int
    online_usd: Decimal
    batch_usd: Decimal | None


def measure(source: Source) -> Measured | None:
    """Pages and size of a file from as few of its first bytes as tell them; None for one that cannot be sent."""
    for size in HEADER_BYTES:
        whole = size >= source.size
        try:
            header = image_header(read_source(source, most_bytes=source.size, end=None if whole else size))
        except ImageError as error:
            if error.code == "truncated" and not whole:
                continue
            return None
        except SourceUnavailable:
            return None
        if _cut_short(source, header.format):
            return None
        return Measured(header.width, header.height, header.pages, header.format)
    return None


def measure_all(sources: Sequence[Source]) -> list[Measured | None]:
    """Every file measured, many at a time, for on S3 each is a request. StopRun where storage hangs."""
    measured: list[Measured | None] = []
    with PrepareThreads(on_s3=any_on_s3(sources)) as readers:
        try:
            for start in range(0, len(sources), TOGETHER):  # they take in all they are given at once
                measured += readers.map(measure, sources[start : start + TOGETHER], timeout=HUNG_S)
        except TimeoutError:
            raise StopRun(HANGS) from None
    return measured


def sent_image_tokens(measured: Iterable[Measured], rules: ImageRules) -> int:
    """Tokens of all images as they would be sent."""
    tokens = 0
    for (width, height, kind), count in Counter(
        (one.width, one.height, one.format) for one in measured for _ in range(one.pages)
    ).items():
        tokens += image_tokens(*planned_size(width, height, rules, kind)) * count
    return tokens


def make_offer(
    measured: list[Measured], resolved: ResolvedJob, *, model: str, preset: Preset, assumed: Assumed
) -> Offer | None:
    """The cost of all images with this model and preset, or None where the endpoint has no price for it."""
    tokens_in = tokens_out = 0
    online, batch = Decimal(0), list[Decimal]()
    for reader in _readers(resolved.job, model):
        prices = prices_of(resolved.endpoint.prices, reader)
        if not prices:
            return None
        rules = image_rules(preset, model_facts(reader), resolved.endpoint)
        prompt = same_prompt_for(assumed.prompt, resolved.job.model, reader)
        usage = _usage(measured, rules, prompt, assumed.output)
        price = _image_price(prices)
        tokens_in, tokens_out = tokens_in + usage.input, tokens_out + usage.output
        online += cost_usd(usage, [price])
        batch += [cost_usd(usage, [price], batch=True)] if price.batch_factor is not None else []
    readings = len(_readers(resolved.job, model))
    in_batches = sum(batch, Decimal(0)) if len(batch) == readings and resolved.endpoint.batches else None
    return Offer(model, preset.name, tokens_in, tokens_out, online, in_batches)


def typical_output(chosen: Preset, schema: AnswerSchema | None) -> int:
    """Tokens of a usual answer, evidence included."""
    boxes = len(schema.root.properties) if schema is not None and schema.evidence else 0
    return chosen.typical_output + boxes * EVIDENCE_TOKENS


def _readers(job: Job, model: str) -> list[str]:
    """The models that read each image: one, or two with a second reading."""
    return [model, second_reader(job, model)] if job.verify else [model]


def expected_cost(plan: Plan, sources: Sequence[Source], *, on_s3: bool = False) -> Decimal | None:
    """About what asking about these files will cost, from the headers of some of them; None without a price.

    Nothing is asked of the endpoint: the prompt's tokens and the answers' are assumed. None for files on S3 too, where
    reading a header is a request that the run would make again, unless `on_s3`.
    """
    if any_on_s3(sources) and not on_s3:
        return None
    sample = measured_sample(sources)
    return cost_by_sample(plan, sample, len(sources))


def measured_sample(sources: Sequence[Source]) -> list[Measured | None]:
    """Some of the files measured, evenly spread."""
    return measure_all(sources[:: max(1, len(sources) // SAMPLE)])


def cost_by_sample(plan: Plan, sample: Sequence[Measured | None], images: int) -> Decimal | None:
    """About what asking about so many files like these will cost online; None without a price."""
    readers = _readers(plan.job, plan.job.model)
    prices = [prices_of(plan.endpoint.prices, reader) for reader in readers]
    measured = [size for size in sample if size is not None]
    if not all(prices) or not measured:
        return None
    text, output, cost = (
        plan.question.prompt + (plan.question.system or ""),
        typical_output(plan.preset, plan.schema),
        Decimal(0),
    )
    for reader, known in zip(readers, prices, strict=True):
        usage = _usage(measured, plan.rules, assumed_prompt(text, reader), Decimal(output))
        cost += cost_usd(usage, [_image_price(known)], batch=plan.job.mode == "batch")
    return cost / len(sample) * images


def _usage(measured: list[Measured], rules: ImageRules, prompt: Decimal, output: Decimal) -> Usage:
    """Tokens of all calls together, with so many of prompt and of answer in each."""
    calls = sum(one.pages for one in measured)
    images = sent_image_tokens(measured, rules)
    return Usage(input=images + math.ceil(prompt * calls), output=math.ceil(output * calls))


def _image_price(prices: tuple[Price, ...]) -> Price:
    """The row for calls with one image, which never reach those for large prompts, fit to price their sum."""
    return replace(price_for(0, prices), up_to=None)


def assumed_prompt(text: str, model: str) -> Decimal:
    """Tokens of a prompt from its length, where the endpoint does not count them."""
    tokens = Decimal(len(text)) / CHARACTERS_A_TOKEN
    return (tokens * _text_factor(model) + REQUEST_OVERHEAD).quantize(Decimal("0.1"))


def same_prompt_for(tokens: Decimal, counted_with: str, model: str) -> Decimal:
    """A prompt's tokens with another model, whose tokenizer may differ."""
    return tokens * _text_factor(model) / _text_factor(counted_with)


def duplicates(sources: Sequence[Source]) -> list[int]:
    """Positions of files that repeat an earlier one byte for byte; only files of equal size are read.

    On S3 nothing is downloaded: equal size and ETag count as equal.
    """
    alike: dict[tuple[int, str], list[int]] = defaultdict(list)
    for position, source in enumerate(sources):
        alike[source.size, (is_s3(source.uri) and source.etag) or ""].append(position)
    repeated: list[int] = []
    for (size, etag), positions in alike.items():
        if len(positions) < 2 or not size:
            continue
        first: set[str] = set()
        for position in positions:
            digest = etag or _digest(sources[position].uri)
            if digest in first:
                repeated.append(position)
            first.add(digest)
    return sorted(repeated)


def _cut_short(source: Source, image_format: str) -> bool:
    """Whether a local file lacks its end; on S3 a second request a file would cost more than it tells."""
    mark = END_MARKS.get(image_format)
    if mark is None or is_s3(source.uri):
        return False
    start = max(0, source.size - TAIL_BYTES)
    return mark not in read_source(source, most_bytes=source.size, start=start, end=source.size)


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return path  # cannot be read: equal to nothing


def _text_factor(model: str) -> Decimal:
    return HIGH_TIER_TEXT if model_facts(model).vision_limits == VISION_TIERS["high"] else Decimal(1)
