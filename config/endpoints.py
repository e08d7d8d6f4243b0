"""Where calls go and what each endpoint understands (endpoints.toml)."""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import ClassVar, Literal
from urllib.parse import urlsplit, urlunsplit

from config.user_files import known, load, typed

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An Anthropic-compatible API: address, how the key is sent, prices, and what it lacks.

    `key_env` names the environment variable that holds the key, and is empty for an endpoint that needs none.
    """

    name: str
    base_url: str
    auth: Literal["bearer", "x-api-key", "both"]
    key_env: str
    prices: str
    cny_per_usd: Decimal
    structured_outputs: bool
    caching: bool
    count_tokens: bool
    has_models_api: bool
    max_base64_bytes: int
    batches: bool = False
    max_batch_bytes: int = 256_000_000
    insecure: bool = False
    notice: str | None = None

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        # Messages name the variable, so a key pasted in its place would be printed; `sk-...` is no name either.
        if self.key_env and not VARIABLE.fullmatch(self.key_env):
            raise ValueError(
                "key_env must be the name of an environment variable, such as MYGATEWAY_API_KEY, not a key"
            )
        if _may_hold_secret(self.base_url):
            raise ValueError(f"base_url {ADDRESS_ALONE}")

    @property
    def identity(self) -> str:
        """Part of the key under which answers are kept: where an answer came from, never with which key."""
        return self.name if self.name != "custom" else self.base_url


ADDRESS_ALONE = "must not hold a user, a password or a query: a key comes from the environment alone"


def endpoint(name_or_url: str) -> Endpoint:
    """The endpoint of this name or URL; LookupError names those there are."""
    table = load("endpoints")
    if _may_hold_secret(name_or_url):  # before a message or a table repeats it
        raise LookupError(f"The endpoint's address {ADDRESS_ALONE}.")
    if "://" not in name_or_url:
        if name_or_url not in table or name_or_url == "custom":
            raise LookupError(
                f"There is no endpoint {name_or_url!r}. Take one of: {known(endpoint_names())}, or a URL."
            )
        return endpoint_row(name_or_url)
    base_url, notice = normalised(name_or_url)
    for name, settings in table.items():
        if settings.get("base_url") == base_url:
            return replace(endpoint_row(name), notice=notice)
    return replace(endpoint_row("custom", base_url), notice=notice)


def endpoint_names() -> list[str]:
    """The names that --endpoint takes, in the order of endpoints.toml, the user's own after them."""
    return [name for name in load("endpoints") if name != "custom"]


def endpoint_row(name: str, base_url: str | None = None) -> Endpoint:
    """The row of this name, for another address if one is given. Raises ConfigError."""
    given = {} if base_url is None else {"base_url": base_url}
    return typed(Endpoint, {**load("endpoints")[name], **given, "name": name}, table="endpoints", name=name)


def normalised(url: str) -> tuple[str, str | None]:
    """The base URL as the SDK needs it, and what was changed: it appends `/v1/messages` itself."""
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable:
        raise LookupError(f"{url!r} is no address of an endpoint. Write it like https://gateway.example.com.")
    path = parts.path.rstrip("/")
    for ending in ("/v1/messages", "/v1"):
        if path.endswith(ending):
            clean = urlunsplit((parts.scheme, parts.netloc, path.removesuffix(ending), "", ""))
            return clean, f"Took {ending} off the endpoint {url}: the client adds /v1/messages itself."
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), None


def _may_hold_secret(address: str) -> bool:
    authority = re.split(r"[/?#]", address.partition("://")[2] or address)[0]
    return "@" in authority or "?" in address or "#" in address
