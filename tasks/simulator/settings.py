"""What can be set about a simulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Script = Sequence[str] | Mapping[str, Sequence[str]]


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
    unknown. `keep_entries` False keeps the ledger's totals only.
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
