"""Packing: requests that wait to be submitted together, and the body that carries them.

A request waits in the backlog until a batch is full by bytes or by count, or nobody comes any more. The body is made
while it is sent and never held as a whole; images lie in memory until then.
"""

from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic

from tasks.asking.batches.intents import Intended, custom_id
from tasks.asking.halting import Halting
from tasks.asking.pages import Page
from tasks.asking.question import Bodies, Step, answer_key, request_key

# The API takes 256 MB and 100,000 requests. An eighth of it holds a hundred images all the same, and waiting for one
# large batch or for eight small ones at once takes as long, while their images are in memory until they are sent.
MOST_BYTES = 32_000_000
MOST_REQUESTS = 5_000
BEGIN, BETWEEN, END = b'{"requests":[', b",", b"]}"
AROUND = 64 + len('{"custom_id":"","params":},')  # bytes of one request beside its parameters, at the most
FILLING_POLL_S = 0.05
# A batch that is not full is submitted when nothing has come for so long: while images are being prepared, or else.
PATIENT_S, QUIET_S = 15.0, 0.4


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a batch, with its image until that is sent; `worst` is what it may cost, in US dollars."""

    page: Page
    step: Step
    worst: Decimal = Decimal(0)

    @property
    def key(self) -> bytes:
        """Names it among all that is asked."""
        question = self.step.question
        return request_key(answer_key(question, self.page.image.sha256), question.max_tokens)

    @property
    def most_bytes(self) -> int:
        """Bytes of the body that it takes up, at the most; known also while the image itself is not in memory."""
        return -(-self.page.image.sent_bytes // 3) * 4 + self.step.question.text_bytes * 2 + 2000 + AROUND

    def intended(self) -> Intended:
        """What is written down of it before it is submitted."""
        question = self.step.question
        return Intended(
            key=answer_key(question, self.page.image.sha256),
            uri=self.page.uri,
            page=self.page.image.page,
            sha256=self.page.image.sha256,
            step=self.step.number,
            attempt=self.page.attempts_at[self.step.number] + 1,
            model=question.model,
            max_tokens=question.max_tokens,
            worst_usd=str(self.worst),
        )


def fitting(requests: Collection[Request], most_bytes: int = MOST_BYTES) -> int:
    """How many of them, from the first on, make one batch: at least one."""
    size = 0
    for number, request in enumerate(requests):
        size += request.most_bytes
        if number and (size > most_bytes or number == MOST_REQUESTS):
            return number
    return len(requests)


class Body:
    """The body of one `create`, piece by piece; its ids begin with the batch's own word, so that it is known again."""

    def __init__(self, word: str, requests: list[Request], bodies: Bodies) -> None:
        self._word = word
        self._requests = requests
        self._bodies = bodies

    @property
    def size(self) -> int:
        """Bytes of it all, for the header `content-length`."""
        return sum(map(len, self._pieces()))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Each request when it is needed."""
        for piece in self._pieces():
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        yield BEGIN
        for number, request in enumerate(self._requests):
            head = f'{{"custom_id":"{custom_id(self._word, number)}","params":'.encode()
            between = BETWEEN if number else b""
            yield b"".join((between, head, self._bodies.body(request.step.question, request.page.image), b"}"))
        yield END


class Backlog:
    """First come, first submitted. Lives on one event loop; `expecting` may be set from any thread."""

    def __init__(self, most_bytes: int, halting: Halting) -> None:
        self.expecting = False  # more requests, soon
        self._most_bytes = most_bytes
        self._halting = halting
        self._waiting: deque[Request] = deque()
        self._bytes = 0
        self._grown = 0.0

    def add(self, request: Request) -> None:
        """Wait with the others."""
        self._waiting.append(request)
        self._bytes += request.most_bytes
        self._grown = monotonic()

    async def batch(self) -> list[Request]:
        """The next batch, once it is full or nobody comes any more. Halted once the run is left."""
        while not self._is_due():
            await self._halting.stay(FILLING_POLL_S)
        count = fitting(self._waiting, self._most_bytes)
        taken = [self._waiting.popleft() for _ in range(count)]
        self._bytes -= sum(request.most_bytes for request in taken)
        return taken

    def left(self) -> list[Request]:
        """Those that will not be submitted."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _is_due(self) -> bool:
        if not self._waiting:
            return False
        if self._bytes >= self._most_bytes or len(self._waiting) >= MOST_REQUESTS:
            return True
        more = self.expecting and self._halting.reason is None
        return monotonic() - self._grown >= (PATIENT_S if more else QUIET_S)
