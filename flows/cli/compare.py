"""`visionflow compare`: plan and estimate before the first call, run every variant, and say which holds."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from config.job import Choices, Job
from flows.cli.conduct import Follower, announce, keep_modules, make_ready
from flows.cli.printed_tables import print_table
from flows.cli.server import Server, ServerGone, not_waiting_for, without_heartbeats
from flows.cli.terminal import Terminal, cost_line, done_line, shortened
from flows.cli.without_pandas import leave_pandas_out
from tasks.errors import StopRun
from tasks.orchestration.invoker import Ended, Invoker, invoked_by
from tasks.planning.variants import Comparison, Variant, plan_comparison, unlabelled
from tasks.text import counted, dollars, duration


@dataclass(frozen=True)
class ComparisonRequest:
    """What a person asked for."""

    source: str
    output: str
    choices: Choices
    job: Job


def conduct_comparison(request: ComparisonRequest, *, server: Server, terminal: Terminal) -> dict[str, Any]:
    """Plan, run every variant, and return the comparison with its exit status; StopRun where it has to stop."""
    leave_pandas_out()
    with terminal.listing() as progress:
        comparison = plan_comparison(request.source, request.output, request.job, request.choices, progress)
    _announce(comparison, terminal)
    make_ready(server, terminal)
    from httpx import HTTPError
    from prefect.exceptions import CancelledRun

    from flows.compare import compare

    keep_modules()
    follower = _Follower(terminal)
    try:
        with (
            invoked_by(Invoker(observer=follower, comparison=comparison)),
            not_waiting_for(server.url, busy=lambda: follower.busy),
            without_heartbeats(),
        ):
            found: dict[str, Any] = compare(request.source, request.output, request.choices, request.job)
    except CancelledRun as error:
        terminal.say("Stopped", str(error))
        raise KeyboardInterrupt from None
    except (HTTPError, ServerGone):
        raise StopRun(
            f"Prefect's server at {server.url} stopped answering. What was answered is kept: run the command again."
        ) from None
    _show(comparison, found, terminal)
    return found


def _announce(comparison: Comparison, terminal: Terminal) -> None:
    """What was found and what it will cost, before anything is asked."""
    announce(comparison.variants[0].plan, terminal)
    if rest := unlabelled(comparison):
        terminal.say("", f"{counted(rest, 'image')} without a label left out")
    estimates = comparison.estimates()
    for number, (variant, estimate) in enumerate(zip(comparison.variants, estimates, strict=True), start=1):
        about = "no price known" if estimate is None else f"about {dollars(estimate)}"
        terminal.say("Variants" if number == 1 else "", f"{number}. {comparison.name(variant)}: {about}")
    known = [estimate for estimate in estimates if estimate is not None]
    cap = comparison.variants[0].plan.job.max_cost
    capped = f"cap ${cap:,} for all together" if cap is not None else "no cap (--max-cost)"
    terminal.say("Estimate", f"about {dollars(sum(known, Decimal(0)))} at most, less what is kept; {capped}")


class _Follower(Follower):
    """Shows the runs of the variants one after another, each in a few lines."""

    def variant(self, comparison: Comparison, variant: Variant) -> None:
        self.began, self.end = False, None
        number = comparison.variants.index(variant) + 1
        self.terminal.say(f"{number} of {len(comparison.variants)}", comparison.name(variant))

    def ended(self, ended: Ended) -> None:
        super().ended(ended)
        self.terminal.failures(ended.failures, most=3)
        self.terminal.say("", f"{done_line(ended.summary)}, {cost_line(ended.summary)}")


def _show(comparison: Comparison, found: dict[str, Any], terminal: Terminal) -> None:
    """The variants as a table, the choice, and where everything is."""
    summary = found["summary"]
    terminal.say(
        "Compared", f"{counted(len(summary['variants']), 'variant')} over {counted(summary['images'], 'image')}"
    )
    score = "score" if comparison.labels is not None else "agreement"
    if not terminal.quiet:
        rows = [
            (
                comparison.name(variant),
                _share(one["score"] if comparison.labels is not None else one["agreement"]),
                f"{one['low']:.3f} to {one['high']:.3f}",
                _usd(one["cost_usd_per_1000"]),
                _usd(one["batch_usd_per_1000"]),
                "-" if one["latency_ms"] is None else duration(one["latency_ms"] / 1000),
            )
            for variant, one in zip(comparison.variants, summary["variants"], strict=True)
        ]
        print_table(("variant",), (score, "95 % interval", "$ per 1,000", "in batches", "latency"), rows)
    for variant, one in zip(comparison.variants, summary["variants"], strict=True):
        if "review" in one:
            terminal.say("Review", f"{comparison.name(variant)}: {_reviewed(one['review'])}")
    terminal.say("Best" if summary["best"] else "Why", summary["why"])
    terminal.say("Results", shortened(summary["results"]))
    terminal.say("Page", shortened(found["page"]))
    if found["to_label"]:
        terminal.say("To label", shortened(found["to_label"]))


def _reviewed(told: dict[str, Any]) -> str:
    """What a second reading was worth."""
    right = "none is left without"
    if told["right"] is not None:
        right = f"of those without needs_review {100 * told['right']:.1f} % are right ({_percents(told)})"
    caught = "" if told["errors_caught"] is None else f", with {100 * told['errors_caught']:.0f} % of the wrong ones"
    return f"{100 * told['flagged']:.1f} % of {counted(told['rows'], 'row')} to review{caught}; {right}"


def _percents(told: dict[str, Any]) -> str:
    return f"95 % interval {100 * told['low']:.1f} to {100 * told['high']:.1f}"


def _share(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _usd(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:,.2f}"
