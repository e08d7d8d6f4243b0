"""A job file: what it may say, and one line for every mistake that names the file, the value and what is allowed."""

from decimal import Decimal
from math import inf, nan
from pathlib import Path
from typing import get_args

import pytest

from config.job import Job, job_name
from flows import analyze_images
from flows.cli.arguments import parser
from flows.cli.jobs import load_job
from tasks.errors import EndpointError, UsageError
from tasks.planning.given import job_of
from tasks.simulator import Simulator


def load(text: str, *options: str) -> tuple[str, str | None, Job]:
    """A job of the file jobs/a.yaml in the current folder."""
    Path("jobs").mkdir(exist_ok=True)
    Path("jobs/a.yaml").write_text(text, encoding="utf-8")
    return load_job(parser().parse_args(["run", "--job", "jobs/a.yaml", *options]))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_settings_are_spelt_like_the_options_or_with_an_underscore() -> None:
    Path("prompt.txt").write_text("What does it cost?\n")
    source, output, job = load(
        "source: photos\noutput: out\nlabel: receipt\ninclude: '*.jpg'\nexclude: [a, b]\nmax-cost: 2.5\nmax_tokens: 9\n"
        "fallback-prompt: '@prompt.txt'\nunpriced: allow\nglobal_limit: null\n",
        "--max-tokens",
        "10",
    )
    assert (source, output) == ("photos", "out")
    assert (job.labels, job.include, job.exclude) == (("receipt",), ("*.jpg",), ("a", "b"))
    assert (job.max_cost, job.max_tokens, job.unpriced) == (Decimal("2.5"), 10, "allow")
    assert (job.fallback_prompt, job.global_limit) == (("What does it cost?",), None)


def test_what_stands_empty_is_as_if_it_did_not_stand_there() -> None:
    _, _, job = load("source: photos\neffort:\nlabels:\nmax_cost: null\n")
    assert job == Job()


MISTAKES = [
    ("cny_per_usd: 7.0123456789", "cny_per_usd: 7.0123456789 has more than 9 decimals."),
    ("unpriced: maybe", "unpriced: 'maybe' is not one of 'stop', 'allow'."),
    ("effort: heroic", "effort: 'heroic' is not one of 'low', 'medium', 'high', 'xhigh', 'max'."),
    ("limit: 0", "limit: 0 is not allowed: it must be at least 1."),
    ("max-cost: cheap", "max-cost: 'cheap' is no number."),
    ("limit: many", "limit: 'many' is no whole number."),
    ("refresh: perhaps", "refresh: 'perhaps' is neither true nor false."),
    ("model: 5", "model: 5 is no text; put it in quotes."),
    ("output: 2026", "output: 2026 is no text; put it in quotes."),
    ("include: 3", "include: 3 is no list."),
    ("prompt: '@none.txt'", "prompt: '@none.txt' cannot be read: No such file or directory."),
    ("fallback_prompt: ['@jobs']", "fallback_prompt: '@jobs' cannot be read: Is a directory."),
    ("preset: ocrr", "preset: There is no preset 'ocrr'. Take one of: ocr, object_detection, classification."),
    ("max_costs: 3", "there is no setting 'max_costs'. Did you mean max_cost or max_cost_per_day or max_tokens?"),
    ("fallback: x", "there is no setting 'fallback'. Did you mean fallback_prompt or fallback_model?"),
    ("colour: red", "there is no setting 'colour'. `visionflow run --help` lists them."),
    ("label: a\nlabels: b", "labels: this setting stands there twice."),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[text.partition(":")[0] for text, _ in MISTAKES])
def test_a_mistake_names_the_file_the_value_and_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(f"source: photos\n{text}\n")
    assert str(caught.value) == f"jobs/a.yaml: {said}"


def test_a_mistake_of_an_option_that_overrides_the_file_is_the_option_s() -> None:
    with pytest.raises(UsageError) as caught:
        load("source: photos\nlimit: 5\n", "--limit", "0")
    assert str(caught.value).startswith("--limit: '0' is not allowed")


def test_a_wrong_endpoint_names_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match=r"^jobs/a.yaml: endpoint: There is no endpoint 'antropic'\. Take one of"):
        load("source: photos\nendpoint: antropic\n")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "gateway.example.com")
    with pytest.raises(EndpointError, match=r"^ANTHROPIC_BASE_URL: There is no endpoint 'gateway.example.com'"):
        load("source: photos\n")


# The least and the most that each figure of a job may be; what lies beside them is refused.
BOUNDS: dict[str, tuple[list[object], list[object]]] = {
    "max_tokens": ([1, 1_000_000], [0, 1_000_001, 1.5]),
    "verify_below": ([0, 1], [-0.01, 1.01, nan]),
    "concurrency": ([1, 1000], [0, 1001, 2.5]),
    "rps": ([0.001, 10_000], [0, 10_001, inf, nan]),
    "rpm": ([0.1, 600_000], [0, 600_001, inf]),
    "attempts": ([1, 20], [0, 21]),
    "timeout": ([0.001, 3600], [0, 3601, inf, nan]),
    "max_cost": ([0, 1_000_000_000], [-1, 1_000_000_001, "NaN", "Infinity"]),
    "max_cost_per_day": ([0, 1_000_000_000], [-1, 1_000_000_001, "NaN"]),
    "limit": ([1, 10**9], [0, -1, 1.5]),
    "deadline": ([0.001, 8760], [0, 8761, inf, nan]),
    "max_failed": ([0, 1], [-0.1, 1.1, nan]),
    "cny_per_usd": (["0.000000001", 1_000_000], [0, 1_000_001, "0.0000000001"]),
    "shards": ([1, 999], [0, 1000]),
}
BESIDE = {"shards": {"pool": "images"}}


@pytest.mark.parametrize("field", BOUNDS)
def test_each_figure_of_a_job_has_a_least_and_a_most_and_beyond_them_nothing_is_asked(
    field: str, simulator: Simulator
) -> None:
    allowed, refused = BOUNDS[field]
    for value in allowed:
        assert getattr(job_of({field: value, **BESIDE.get(field, {})}), field) is not None
    for value in refused:
        with pytest.raises(UsageError, match=rf"^job\.{field}: "):
            analyze_images("photos", "out", job={field: value, **BESIDE.get(field, {})})
    assert simulator.ledger().requests == 0
    assert not Path("out").exists()


def test_every_figure_of_a_job_stands_in_the_table() -> None:
    numbers = {name for name, field in Job.model_fields.items() if field.metadata and _is_number(field.annotation)}
    assert numbers == set(BOUNDS)


def _is_number(annotation: object) -> bool:
    return bool({int, float, Decimal} & {annotation, *get_args(annotation)})


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hunter2@gateway.example.com/v1",
        "hunter2@gateway.example.com",
        "https://gateway.example.com/?key=hunter2",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match="must not hold a user, a password or a query") as option:
        load("source: photos\n", "--endpoint", address)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
    with pytest.raises(EndpointError, match="ANTHROPIC_BASE_URL: The endpoint's address") as variable:
        load("source: photos\n")
    assert "hunter2" not in str(option.value) + str(variable.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a list", "The job file jobs/a.yaml must hold `option: value` lines."),
        ("a: [", "The job file jobs/a.yaml is not YAML: "),
    ],
)
def test_what_is_no_job_file(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(text)
    assert str(caught.value).startswith(said)
    with pytest.raises(UsageError, match=r"Cannot read the job file none.yaml: No such file or directory\."):
        load_job(parser().parse_args(["run", "--job", "none.yaml"]))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("photos/receipts/", "receipts"),
        ("s3://acme/2026", "job-2026"),
        ("photos/epoch", "job-epoch"),
        ("Inf", "job-Inf"),
        ("photos/*.jpg", "photos"),
        ("list of images.csv", "list-of-images"),
        ("hóa đơn", "hóa-đơn"),
        ("ho\u0301a", "hóa"),  # as some file systems spell it
        ("收据", "收据"),
        (".", "images"),
        ("x" * 90, "x" * 60),
    ],
)
def test_a_job_without_a_name_is_named_like_its_source(source: str, name: str) -> None:
    assert job_name(source) == name
    assert Job(name=name).name == name
