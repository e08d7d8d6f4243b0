"""`visionflow reconcile`: the ledger beside the provider's own usage and cost report."""

import json
import sys
from datetime import date

from config.endpoints import endpoint
from config.job import Job
from flows.cli.printed_tables import print_table
from flows.cli.terminal import Terminal
from flows.cli.without_pandas import leave_pandas_out
from tasks.asking.client import completed
from tasks.errors import UsageError
from tasks.reporting.reconciliation import Period, Reconciliation, reconcile
from tasks.text import counted

AGREES, DIFFERS = 0, 3


def print_reconciliation(output: str, period: Period, name: str | None, workspace: str | None, *, as_json: bool) -> int:
    """Compare and print; 0 where both sides agree, 3 where they do not."""
    leave_pandas_out()
    try:
        asked = endpoint(Job(endpoint=name).endpoint_name)
    except LookupError as error:
        raise UsageError(str(error)) from None
    found = completed(reconcile(output, period, asked, workspace))
    if as_json:
        sys.stdout.write(json.dumps(_summary(found)) + "\n")
    else:
        _say(found)
    return AGREES if found.agrees else DIFFERS


def day(text: str) -> date:
    """The day of an option, written like 2026-11-24. Raises UsageError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no day. Write it like 2026-11-24.") from None


def _say(found: Reconciliation) -> None:
    terminal = Terminal()
    terminal.say("Period", f"{found.period.first} to {found.period.last} (UTC), {found.endpoint}")
    rows = [
        (model, tier, name, f"{ours:,}", f"{theirs:,}", f"{theirs - ours:+,}")
        for model, tier, name, ours, theirs in found.tokens()
    ]
    if rows:
        print_table(("model", "tier", "tokens"), ("ledger", "provider", "difference"), rows)
    dollars = [
        (str(day), f"${ours:.6f}", f"${theirs:.6f}", f"{theirs - ours:+.6f}") for day, ours, theirs in found.dollars()
    ]
    if dollars:
        print_table(("day",), ("ledger", "provider", "difference"), dollars)
    if found.ours.maybe:
        maybe = counted(found.ours.maybe, "call")
        terminal.say("Note", f"{maybe} may have been paid: no answer was seen, so the ledger counts no tokens")
    if found.agrees:
        terminal.say("Agrees", "every class of tokens, and every day to the cent")
        return
    terminal.say("Differs", "more at the provider is other work in the workspace, or calls that may have been paid;")
    terminal.note("less is what it has not counted yet (some 5 minutes), or calls near midnight")


def _summary(found: Reconciliation) -> dict[str, object]:
    """As JSON: dollars as text, so that no digit is lost."""
    return {
        "from": str(found.period.first),
        "to": str(found.period.last),
        "endpoint": found.endpoint,
        "agrees": found.agrees,
        "calls_maybe_paid": found.ours.maybe,
        "tokens": [
            {"model": model, "tier": tier, "class": name, "ledger": ours, "provider": theirs}
            for model, tier, name, ours, theirs in found.tokens()
        ],
        "dollars": [
            {"day": str(day), "ledger": format(ours, "f"), "provider": format(theirs, "f")}
            for day, ours, theirs in found.dollars()
        ],
    }
