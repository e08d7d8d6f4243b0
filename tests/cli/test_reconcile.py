"""`visionflow reconcile`: what the ledger counted and what the provider counted, told apart class by class."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tasks.simulator import Simulator
from tests.http_servers import Handler, serving
from tests.runs import CommandLine, draw

TODAY = datetime.now(UTC).date()
DAYS = ("--from", TODAY - timedelta(days=40), "--to", TODAY + timedelta(days=1))  # more than one page of 31 days
ADMIN_KEY = "sk-ant-admin-of-a-test"


@pytest.fixture(autouse=True)
def admin_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", ADMIN_KEY)


@pytest.fixture
def output(prefect_server: str, visionflow: CommandLine, simulator: Simulator, tmp_path: Path) -> Path:
    """Three images asked online and two in a batch."""
    out = tmp_path / "out"
    options = ("--output", out, "--name", "job", "--preset", "classification", "--no-thumbnails", "--json")
    assert visionflow("run", draw(tmp_path / "images", 3), *options).status == 0
    assert visionflow("run", draw(tmp_path / "more", 2, 10), *options, "--mode", "batch").status == 0
    return out


def ask_beside(simulator: Simulator) -> None:
    """A call of somebody else with the same key."""
    body = {"model": "claude-haiku-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"x-api-key": "other", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    urlopen(Request(f"{simulator.url}/v1/messages", json.dumps(body).encode(), headers)).read()


def test_both_sides_agree_until_somebody_else_uses_the_key(
    visionflow: CommandLine, simulator: Simulator, output: Path
) -> None:
    agreed = visionflow("reconcile", output, *DAYS, "--json")
    assert (agreed.status, agreed.summary["agrees"]) == (0, True)
    counted = {(row["tier"], row["class"]): (row["ledger"], row["provider"]) for row in agreed.summary["tokens"]}
    ledger = simulator.ledger()
    assert {tier for tier, _ in counted} == {"standard", "batch"}
    assert sum(ours for (_, name), (ours, _) in counted.items() if name == "output") == ledger.tokens["output"]
    dollars = [(row["ledger"], row["provider"]) for row in agreed.summary["dollars"]]
    assert [float(theirs) for _, theirs in dollars] == [float(ledger.cost_usd)]
    assert "Agrees    every class of tokens, and every day to the cent" in visionflow("reconcile", output, *DAYS).out

    ask_beside(simulator)
    differing = visionflow("reconcile", output, *DAYS)
    assert differing.status == 3
    assert "Differs   more at the provider is other work in the workspace" in differing.out
    more = [line for line in differing.out.splitlines() if "standard" in line and "input" in line]
    assert len(more) == 1 and "+" in more[0]


def test_a_call_without_an_answer_is_told_not_counted(
    visionflow: CommandLine, simulator: Simulator, prefect_server: str, tmp_path: Path
) -> None:
    """The provider billed what the cut connection lost: the ledger says how many such calls there are."""
    simulator.set_faults(script=("drop_paid",))
    options = ("--output", tmp_path / "out", "--preset", "classification", "--no-thumbnails", "--json")
    assert visionflow("run", draw(tmp_path / "images", 2), *options).summary["calls"] == 3
    found = visionflow("reconcile", tmp_path / "out", *DAYS)
    assert found.status == 3
    assert "Note      1 call may have been paid: no answer was seen" in found.out


def test_what_cannot_be_compared_is_one_line(
    visionflow: CommandLine, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = visionflow.mistake("reconcile", output, "--from", "yesterday", "--to", TODAY, status=2)
    assert wrong == "visionflow: 'yesterday' is no day. Write it like 2026-11-24."
    backwards = visionflow.mistake("reconcile", output, "--from", TODAY, "--to", "2026-01-01", status=2)
    assert "--to 2026-01-01 is before --from" in backwards
    assert "No calls in" in visionflow.mistake("reconcile", tmp_path / "images", *DAYS, status=2)

    with gateway(404, "<html>no such page</html>") as url:
        assert "Only Anthropic's own API has one" in visionflow.mistake(
            "reconcile", output, *DAYS, "--endpoint", url, status=1
        )
    for body in ("[]", '{"data": 1, "has_more": false}', rows('"uncached_input_tokens": "many"'), "{", "9" * 9000):
        with gateway(200, body) as url:
            line = visionflow.mistake("reconcile", output, *DAYS, "--endpoint", url, status=1)
            assert "cannot be reconciled: its report is not as documented" in line

    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", "sk-ant-api-of-a-person")
    refused = visionflow.mistake("reconcile", output, *DAYS, status=1)
    assert "Check ANTHROPIC_ADMIN_KEY: it must be an admin key" in refused and "of-a-person" not in refused
    monkeypatch.delenv("ANTHROPIC_ADMIN_KEY")
    assert "ANTHROPIC_ADMIN_KEY is empty" in visionflow.mistake("reconcile", output, *DAYS, status=1)


def rows(row: str) -> str:
    start = '{"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"model": "m", "service_tier": "standard", '
    return start + row + '}]}], "has_more": false, "next_page": null}'


@contextmanager
def gateway(status: int, body: str) -> Iterator[str]:
    """A server that answers every GET with this."""

    class Answering(Handler):
        def do_GET(self) -> None:
            self.answer(status, body.encode())

    with serving(Answering) as url:
        yield url
