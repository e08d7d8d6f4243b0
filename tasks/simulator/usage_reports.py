"""The Admin API's usage and cost reports over HTTP, from the ledger: days in UTC, a page of some days at a time."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tasks.simulator.catalogue import ApiError, bad_request
from tasks.simulator.ledger import Entry
from tasks.simulator.rules import check_headers

if TYPE_CHECKING:
    from tasks.simulator.service import Service

REQUEST_ID = "req_simulated_reports"
MOST_DAYS = 31
ADMIN = "sk-ant-admin"

Rows = Callable[[list[Entry]], Iterable[dict[str, Any]]]


class ReportRoutes:
    """The endpoints of the reports; `mark` are the headers that every answer of the simulator has."""

    def __init__(self, service: "Service", mark: dict[str, str]) -> None:
        self._service = service
        self._mark = {**mark, "request-id": REQUEST_ID}

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register them."""
        router.add_get("/v1/organizations/usage_report/messages", self._usage)
        router.add_get("/v1/organizations/cost_report", self._costs)

    async def _usage(self, request: web.Request) -> web.Response:
        return self._answer(request, _usage)

    async def _costs(self, request: web.Request) -> web.Response:
        return self._answer(request, _costs)

    def _answer(self, request: web.Request, rows: Rows) -> web.Response:
        check_headers(request.headers)
        if not request.headers.get("x-api-key", "").startswith(ADMIN):
            raise ApiError(403, "permission_error", "This API key is not an admin key")
        return web.json_response(self._page(request, rows), headers=self._mark)

    def _page(self, request: web.Request, rows: Rows) -> dict[str, Any]:
        query = request.query
        try:
            begin, end = (datetime.fromisoformat(query[name]) for name in ("starting_at", "ending_at"))
            start = datetime.fromisoformat(query["page"]) if "page" in query else begin
            days = int(query.get("limit", "7"))
        except (KeyError, ValueError) as error:
            raise bad_request(f"{error}: Field required, or not valid") from None
        if query.get("bucket_width", "1d") != "1d" or not 1 <= days <= MOST_DAYS:
            raise bad_request("The simulator reports days (bucket_width=1d), at most 31 of them on a page")
        stop = min(end, start + timedelta(days=days))
        buckets = []
        while start < stop:
            following = start + timedelta(days=1)
            of_day = [entry for entry in self._billed() if start <= _began(entry) < following]
            moments = {"starting_at": start.isoformat(), "ending_at": following.isoformat()}
            buckets.append({**moments, "results": list(rows(of_day))})
            start = following
        more = stop < end
        return {"data": buckets, "has_more": more, "next_page": stop.isoformat() if more else None}

    def _billed(self) -> list[Entry]:
        return [entry for entry in self._service.book.read().entries if entry.billed]


def _usage(entries: list[Entry]) -> Iterable[dict[str, Any]]:
    """A row a model and tier, as `group_by[]=model&group_by[]=service_tier` gives them."""
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.model, "batch" if entry.batch else "standard"].append(entry)
    for (model, tier), group in groups.items():
        yield {
            "model": f"simulated/{model}",  # as answers name it
            "service_tier": tier,
            "workspace_id": None,
            "uncached_input_tokens": sum(entry.usage.input for entry in group),
            "cache_read_input_tokens": sum(entry.usage.cache_read for entry in group),
            "cache_creation": {
                "ephemeral_5m_input_tokens": sum(entry.usage.cache_write_5m for entry in group),
                "ephemeral_1h_input_tokens": sum(entry.usage.cache_write_1h for entry in group),
            },
            "output_tokens": sum(entry.usage.output for entry in group),
        }


def _costs(entries: list[Entry]) -> Iterable[dict[str, Any]]:
    """The day's dollars, as decimal text in cents."""
    cents = sum((entry.cost_usd for entry in entries), Decimal(0)) * 100
    if entries:
        yield {"amount": format(cents, "f"), "currency": "USD", "workspace_id": None}


def _began(entry: Entry) -> datetime:
    return datetime.fromtimestamp(entry.time, UTC)
