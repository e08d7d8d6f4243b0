"""The ledger of an output beside the provider's own usage and cost report.

The provider counts tokens by day, model and tier, and dollars by day (Anthropic's Admin API: `usage_report/messages`
and `cost_report`, which take an admin key). It knows no runs: its figures hold what other work in the workspace used.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from config.endpoints import Endpoint
from tasks.asking.client import SIMULATED_HEADER, make_client, secrets_of, unreachable
from tasks.errors import EndpointError, UsageError
from tasks.recording.reading_back import read_rows

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

ADMIN_KEY = "ANTHROPIC_ADMIN_KEY"
USAGE = "/v1/organizations/usage_report/messages"
COSTS = "/v1/organizations/cost_report"
MOST_DAYS = 31  # of one page of days, as the API document says
MOST_PAGES = 1000
TIMEOUT_S = 60.0
ANSWER_TOKENS = 20_000  # room for a page of 31 days in the client's bound on an answer's bytes
CENTS = Decimal(100)

# Our column, and where a row of the usage report counts the same.
CLASSES: dict[str, tuple[str, ...]] = {
    "input": ("uncached_input_tokens",),
    "output": ("output_tokens",),
    "cache_read": ("cache_read_input_tokens",),
    "cache_write_5m": ("cache_creation", "ephemeral_5m_input_tokens"),
    "cache_write_1h": ("cache_creation", "ephemeral_1h_input_tokens"),
}
Tokens = Counter[tuple[str, str, str]]  # model, tier (standard or batch), class
Dollars = dict[date, Decimal]
DATED = re.compile(r"-20\d{6}$")


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days in UTC, both of them counted."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise UsageError(f"--to {self.last} is before --from {self.first}.")

    @property
    def ends(self) -> date:
        """The day after the last."""
        return self.last + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Counted:
    """What one side counted in a period; of the ledger also the calls that may have been paid, unknown to it."""

    tokens: Tokens
    dollars: Dollars
    maybe: int = 0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Both sides of a period. A difference is the provider's figure less ours."""

    period: Period
    endpoint: str
    ours: Counted
    provider: Counted

    def tokens(self) -> Iterator[tuple[str, str, str, int, int]]:
        """Model, tier, class, ours, the provider's; every class that one of the two counted."""
        for key in sorted(self.ours.tokens.keys() | self.provider.tokens.keys()):
            ours, theirs = self.ours.tokens[key], self.provider.tokens[key]
            if ours or theirs:
                yield (*key, ours, theirs)

    def dollars(self) -> Iterator[tuple[date, Decimal, Decimal]]:
        """Day, ours, the provider's."""
        for day in sorted(self.ours.dollars.keys() | self.provider.dollars.keys()):
            yield day, self.ours.dollars.get(day, Decimal(0)), self.provider.dollars.get(day, Decimal(0))

    @property
    def agrees(self) -> bool:
        """Whether no class of tokens differs, and no day by a cent or more: the provider bills in parts of a cent."""
        return all(ours == theirs for *_, ours, theirs in self.tokens()) and all(
            abs(ours - theirs) < 1 / CENTS for _, ours, theirs in self.dollars()
        )


async def reconcile(output: str, period: Period, endpoint: Endpoint, workspace: str | None = None) -> Reconciliation:
    """Compare what an output's ledger and the endpoint counted in a period, of one workspace if one is named.

    Raises UsageError for an output without calls, and EndpointError for a missing or refused key and for an endpoint
    that gives no such report.
    """
    admin = replace(endpoint, auth="x-api-key", key_env=ADMIN_KEY)
    calls = read_rows("calls", output)
    async with make_client(admin, concurrency=1, timeout=TIMEOUT_S, max_tokens=ANSWER_TOKENS) as client:
        report = _ProviderReport(client, admin, period)
        provider = await report.counted(workspace)
        name = "simulator" if report.simulated else endpoint.identity
    return Reconciliation(period, name, ledger_of(calls, period, {name, endpoint.name}), provider)


def ledger_of(calls: pa.Table, period: Period, endpoints: set[str]) -> Counted:
    """Tokens and dollars of the calls to these endpoints that began in the period."""
    first, ends = (pa.scalar(_midnight(day), pa.timestamp("us", tz="UTC")) for day in (period.first, period.ends))
    began = calls["started_at"]
    within = pc.and_(pc.greater_equal(began, first), pc.less(began, ends))
    calls = calls.filter(pc.and_(within, pc.is_in(calls["endpoint"], pa.array(sorted(endpoints)))))
    tokens, dollars = Tokens(), Dollars()
    columns = [f"{name}_tokens" for name in CLASSES]
    paid = calls.filter(pc.equal(calls["paid"], "yes"))
    for row in paid.select(["model", "model_answered", "tier", "started_at", "cost_usd", *columns]).to_pylist():
        model = _undated(row["model_answered"] or row["model"])
        for name in CLASSES:
            tokens[model, row["tier"], name] += row[f"{name}_tokens"] or 0
        day = row["started_at"].astimezone(UTC).date()
        dollars[day] = dollars.get(day, Decimal(0)) + (row["cost_usd"] or 0)
    return Counted(tokens, dollars, maybe=pc.sum(pc.equal(calls["paid"], "maybe")).as_py() or 0)


class _ProviderReport:
    """Reads the two reports of an endpoint, page by page."""

    def __init__(self, client: "AsyncAnthropic", endpoint: Endpoint, period: Period) -> None:
        self._client = client
        self._endpoint = endpoint
        self._days = {
            "starting_at": _midnight(period.first).isoformat(),
            "ending_at": _midnight(period.ends).isoformat(),
            "bucket_width": "1d",
            "limit": MOST_DAYS,
        }
        self.simulated = False

    async def counted(self, workspace: str | None) -> Counted:
        """Tokens and dollars of the period; EndpointError for an answer that is not as documented."""
        tokens, dollars = Tokens(), Dollars()
        by: dict[str, Any] = {"group_by": ["model", "service_tier"]}
        try:
            async for _, row in self._rows(USAGE, by | ({"workspace_ids": [workspace]} if workspace else {})):
                tier = "batch" if row["service_tier"] == "batch" else "standard"
                for name, path in CLASSES.items():
                    tokens[_undated(str(row["model"])), tier, name] += _tokens(row, path)
            async for day, row in self._rows(COSTS, {"group_by": ["workspace_id"]}):
                if workspace in (None, row["workspace_id"]):
                    dollars[day] = dollars.get(day, Decimal(0)) + Decimal(row["amount"]) / CENTS
        except (AttributeError, KeyError, TypeError, ValueError, InvalidOperation) as error:
            said = f"its report is not as documented ({type(error).__name__}: {error})"
            raise EndpointError(f"{self._endpoint.base_url} cannot be reconciled: {self._secrets(said)}.") from None
        return Counted(tokens, dollars)

    async def _rows(self, path: str, more: Mapping[str, Any]) -> AsyncIterator[tuple[date, Mapping[str, Any]]]:
        """Day and row, of all pages."""
        page: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            answer = await self._page(path, {**self._days, **more, **page})
            for bucket in answer["data"]:
                for row in bucket["results"]:
                    yield datetime.fromisoformat(bucket["starting_at"]).astimezone(UTC).date(), row
            if not answer["has_more"]:
                return
            page = {"page": str(answer["next_page"])}
        raise ValueError(f"more than {MOST_PAGES} pages")

    async def _page(self, path: str, query: dict[str, Any]) -> Mapping[str, Any]:
        import anthropic
        from httpx2 import Response

        try:
            response = await self._client.get(path, cast_to=Response, options={"params": query})
        except anthropic.APIStatusError as error:
            raise EndpointError(self._refusal(error.status_code, str(error.api_message))) from None
        except anthropic.APIConnectionError as error:
            raise EndpointError(unreachable(self._endpoint, error)) from None
        self.simulated = response.headers.get(SIMULATED_HEADER) == "true"
        return dict(response.json(parse_float=Decimal))

    def _refusal(self, status: int, said: str) -> str:
        key = f"Check {ADMIN_KEY}: it must be an admin key of the organisation (sk-ant-admin...)."
        gateway = "Only Anthropic's own API has one: ask the gateway for its bill, or take --endpoint anthropic."
        remedy = {401: key, 403: key, 404: gateway}.get(status, "Try again later.")
        return f"{self._endpoint.base_url} gives no usage report ({status} {self._secrets(said)}). {remedy}"

    def _secrets(self, said: str) -> str:
        return secrets_of(self._endpoint).out_of(said)


def _tokens(row: Mapping[str, Any], path: tuple[str, ...]) -> int:
    value: Any = row
    for name in path:
        value = value.get(name) or 0 if value else 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError
    return value


def _undated(model: str) -> str:
    """A model without the date of its snapshot, which one side may leave out."""
    return DATED.sub("", model)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
