"""Where calls go and what each endpoint understands (endpoints.toml)."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from config.tables import known, load


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An Anthropic-compatible API: address, how the key is sent, prices, and what it lacks."""

    name: str
    base_url: str
    auth: Literal["bearer", "x-api-key", "both"]
    key: str
    prices: str
    cny: Decimal
    structured_outputs: bool
    caching: bool
    count_tokens: bool
    models: bool
    base64: int
    notice: str | None = None

    @property
    def identity(self) -> str:
        """Part of the key under which answers are kept: where an answer came from, never with which key."""
        return self.name if self.name != "custom" else self.base_url


def endpoint(name_or_url: str) -> Endpoint:
    """The endpoint of this name or URL; LookupError names those there are."""
    table = load("endpoints")
    if "://" not in name_or_url:
        if name_or_url not in table or name_or_url == "custom":
            names = [name for name in table if name != "custom"]
            raise LookupError(f"There is no endpoint {name_or_url!r}. Take one of: {known(names)}, or a URL.")
        return _endpoint(name_or_url, table[name_or_url]["base_url"])
    base_url, notice = normalised(name_or_url)
    for name, settings in table.items():
        if settings.get("base_url") == base_url:
            return replace(_endpoint(name, base_url), notice=notice)
    return replace(_endpoint("custom", base_url), notice=notice)


def normalised(url: str) -> tuple[str, str | None]:
    """The base URL as the SDK needs it, and what was changed: it appends `/v1/messages` itself."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LookupError(f"{url!r} is no address of an endpoint. Write it like https://gateway.example.com.")
    path = parts.path.rstrip("/")
    for ending in ("/v1/messages", "/v1"):
        if path.endswith(ending):
            path = path.removesuffix(ending)
            clean = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
            return clean, f"Took {ending} off the endpoint {url}: the client adds /v1/messages itself."
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), None


def _endpoint(name: str, base_url: str) -> Endpoint:
    settings = dict(load("endpoints")[name])
    settings.pop("base_url", None)
    return Endpoint(name=name, base_url=base_url, **{**settings, "cny": Decimal(settings["cny"])})
