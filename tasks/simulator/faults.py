"""Failures on purpose.

A fault string is a list of `NAME=PROBABILITY` or `NAME=PROBABILITY:SECONDS`, for example
`429=0.3:1.5,529=0.05,drop=0.02,hang=0.01`. Probabilities add up to at most 1; what is left is answered. Names:

  400 401 402 403 404 408 409 413 429 500 502 503 504 529   that status with the API's error body;
                  SECONDS is the retry-after header (429 has one even without)
  spend           429 enforced_spend_limit_reached: no retry-after, waiting is useless
  spend_own       400 "You have reached your specified API usage limits"
  ramp            429 ramp_limit_exceeded
  html            502 with a proxy's HTML page          html200   a login page with status 200
  foreign         another service's JSON, status 200
  drop_unpaid     connection cut before the work        drop_paid connection cut after it: billed, never seen
  drop            one of those two, half and half
  hang            no answer, until the client gives up or SECONDS have passed; not billed
  truncate        the body ends in the middle of the JSON; billed
  slow            answered properly, SECONDS (default 5) later than usual
  refusal         stop_reason refusal after a few words; billed     refusal_empty   before any word; not billed
  max_tokens      stop_reason max_tokens, the text cut in half; billed
  garbage         an answer that fits no schema; billed
  400_image       400 "Could not process image"
  drip            a byte every SECONDS (default 1) without end; billed
  flood           300 MB of answer; billed              bomb          200 MB that are 200 kB on the wire; billed
  redirect        307 to the setting `elsewhere`
  balance         400 "Your credit balance is too low", as for every row of a batch without money
  expired         a row of a Message Batch whose time is over; an ordinary answer to any other request
  canceled        a row of a Message Batch that somebody cancelled; likewise
  ok              an ordinary answer (for scripts)
  usage_negative, text_null and others: answers with one field that is nonsense, all in `lies`; billed

What fails depends on the seed, the images of the request and how often they were asked before, not on the order in
which requests arrive: two runs over the same images meet the same faults, however many calls are in flight.

A script decides instead of chance until it is used up: a list of `NAME` or `NAME:SECONDS` for the first requests, or
lists for images by the beginning of their SHA-256.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from tasks.simulator.catalogue import REQUEST_ERROR, ApiError
from tasks.simulator.lies import LIES, RAW

Script = Sequence[str] | Mapping[str, Sequence[str]]


HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Settings:
    """How the simulator listens, how fast it is, how it fails, and what it limits.

    `latency` is the least time from a request's arrival to its answer, in seconds.
    `faults` and `script` are explained in `faults`; `retry_after` (seconds) is sent with 429 where a fault names no
    other. `ocr` answers questions about text with what a local engine reads; without it an answer is a pure function
    of the image's bytes and the question.
    A limit that is None does not exist, nor do its headers; `burst_s` is how many seconds' worth may come at once.
    `elsewhere` is where the fault `redirect` sends clients. `batch_latency` is the time from a Message Batch's creation
    to its end, in seconds, and `batch_faults` are explained in `batches`; without `batches` that path is
    unknown. `keep_entries` False keeps the ledger's totals only. `truth`, `images` and `errors` are explained in
    `known`.
    """

    host: str = "127.0.0.1"
    port: int = 0
    latency: float = 0.0
    faults: str = ""
    script: Script = ()
    seed: int = 0
    retry_after: float = 1.0
    hang_s: float = 3600.0
    ocr: bool = False
    ocr_workers: int = 2
    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    burst_s: float = 60.0
    elsewhere: str = "http://redirected.invalid"
    batches: bool = True
    batch_latency: float = 0.0
    batch_faults: str = ""
    keep_entries: bool = True
    truth: str = ""
    images: str = ""
    errors: str = ""

    def __post_init__(self) -> None:
        """ValueError for what no server could do."""
        if not 0 <= self.port <= HIGHEST_PORT:
            raise ValueError(f"port {self.port}: a port lies between 0 and {HIGHEST_PORT}")
        for name in ("latency", "batch_latency"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name} {getattr(self, name)}: seconds are a number, and not less than 0")


STATUS_TYPES = {
    400: REQUEST_ERROR,
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
OTHER_NAMES = frozenset(
    [
        "spend",
        "spend_own",
        "ramp",
        "html",
        "html200",
        "foreign",
        "drop",
        "drop_paid",
        "drop_unpaid",
        "hang",
        "truncate",
        "slow",
        "refusal",
        "refusal_empty",
        "max_tokens",
        "garbage",
        "400_image",
        "drip",
        "flood",
        "bomb",
        "redirect",
        "balance",
        "expired",
        "canceled",
        "ok",
        *LIES,
        *RAW,
    ]
)
SLOW_S = 5.0
IMAGE_PATH = "messages.0.content.0.image.source.base64.data"


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure, by its name in the list above, and its seconds where it has any."""

    name: str
    seconds: float | None = None


OK = Fault("ok")


def parse_fault(text: str) -> Fault:
    """Read `NAME` or `NAME:SECONDS`; ValueError for a name that is not in the list."""
    name, _, seconds = text.strip().partition(":")
    if name not in OTHER_NAMES and not (name.isdecimal() and int(name) in STATUS_TYPES):
        names = ", ".join([*map(str, STATUS_TYPES), *sorted(OTHER_NAMES)])
        raise ValueError(f"unknown fault {name!r}; the simulator knows {names}")
    if not seconds:
        return Fault(name)
    value = _number(seconds, text)
    if value < 0:
        raise ValueError(f"fault {text!r}: seconds must be 0 or more")
    return Fault(name, value)


def parse_faults(text: str) -> tuple[tuple[Fault, float], ...]:
    """Read a fault string; ValueError says what is wrong with it."""
    chances: list[tuple[Fault, float]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, rest = part.partition("=")
        chance, colon, seconds = rest.partition(":")
        if not equals:
            raise ValueError(f"fault {part!r} has no probability; write {part}=0.05")
        fault = parse_fault(name + colon + seconds)
        probability = _number(chance, part)
        if not 0 <= probability <= 1:
            raise ValueError(f"fault {part!r}: a probability lies between 0 and 1")
        chances.append((fault, probability))
    if sum(probability for _, probability in chances) > 1 + 1e-9:
        raise ValueError(f"the probabilities of {text!r} add up to more than 1")
    return tuple(chances)


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"fault {whole!r}: {text!r} is not a number") from None


class FaultPlan:
    """Decides the fault of each request."""

    def __init__(self, faults: str = "", *, script: Script = (), seed: int = 0) -> None:
        self._chances = parse_faults(faults)
        self._by_index: list[Fault] = []
        self._by_image: dict[str, list[Fault]] = {}
        if isinstance(script, Mapping):
            self._by_image = {prefix: _parse_list(names) for prefix, names in script.items()}
        else:
            self._by_index = _parse_list(script)
        self._seed = seed
        self._asked: Counter[str] = Counter()

    def next(self, images: Sequence[str]) -> Fault:
        """The fault of the next request, which holds the images with these SHA-256 digests."""
        if not (self._chances or self._by_index or self._by_image):
            return OK
        scripted = self._scripted(images)
        if scripted is not None:
            return scripted
        key = "".join(images)
        self._asked[key] += 1
        draw = self._draw(f"{self._seed}:{key}:{self._asked[key]}")
        for fault, probability in self._chances:
            if draw < probability:
                return self._settle(fault, key)
            draw -= probability
        return OK

    def _scripted(self, images: Sequence[str]) -> Fault | None:
        if self._by_index:
            return self._settle(self._by_index.pop(0), "".join(images))
        for prefix, faults in self._by_image.items():
            if faults and any(image.startswith(prefix) for image in images):
                return self._settle(faults.pop(0), "".join(images))
        return None

    def _settle(self, fault: Fault, key: str) -> Fault:
        if fault.name != "drop":
            return fault
        paid = self._draw(f"{self._seed}:{key}:{self._asked[key]}:paid") < 0.5
        return Fault("drop_paid" if paid else "drop_unpaid")

    @staticmethod
    def _draw(text: str) -> float:
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


def _parse_list(names: Sequence[str]) -> list[Fault]:
    return [parse_fault(name) for name in names]


def fault_error(fault: Fault, retry_after: float) -> ApiError | None:
    """The API error this fault stands for; None when it is another kind of failure."""
    note = "simulated fault"
    if fault.name == "spend":
        details = {"error_code": "enforced_spend_limit_reached"}
        message = f"You have reached the monthly spend limit of your usage tier ({note})"
        return ApiError(429, STATUS_TYPES[429], message, details=details)
    if fault.name == "spend_own":
        message = f"You have reached your specified API usage limits ({note})"
        return ApiError(400, REQUEST_ERROR, message)
    if fault.name == "balance":
        message = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing"
        return ApiError(400, REQUEST_ERROR, f"{message} ({note})")
    if fault.name == "ramp":
        details = {"error_code": "ramp_limit_exceeded"}
        wait = _wait_header(retry_after if fault.seconds is None else fault.seconds)
        message = f"Usage grows too fast: ramp up gradually ({note})"
        return ApiError(429, STATUS_TYPES[429], message, details=details, headers=wait)
    if fault.name == "400_image":
        return ApiError(400, REQUEST_ERROR, f"{IMAGE_PATH}: Could not process image ({note})")
    if not fault.name.isdecimal():
        return None
    status = int(fault.name)
    seconds = retry_after if fault.seconds is None and status == 429 else fault.seconds
    headers = {} if seconds is None else _wait_header(seconds)
    return ApiError(status, STATUS_TYPES[status], f"{STATUS_TYPES[status]} ({note})", headers=headers)


def _wait_header(seconds: float) -> dict[str, str]:
    return {"retry-after": f"{seconds:g}"}
