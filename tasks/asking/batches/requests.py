"""What is put into a Message Batch, and the body that carries it, made while it is sent: never held as a whole."""

import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from tasks.asking.pages import Page
from tasks.asking.question import Bodies, Step, answer_key

# The API takes 256 MB and 100,000 requests. An eighth of it holds a hundred images all the same, and waiting for one
# large batch or for eight small ones at once takes as long, while their images are in memory until they are sent.
MOST_BYTES = 32_000_000
MOST_REQUESTS = 5_000
BEGIN, BETWEEN, END = b'{"requests":[', b",", b"]}"
AROUND = 64 + len('{"custom_id":"","params":},')  # bytes of one request beside its parameters, at the most


Key = tuple[str, int]  # of an answer, and the room that its question leaves: which two requests may share


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a batch, with its image until that is sent; `worst` is what it may cost, in US dollars."""

    page: Page
    step: Step
    worst: Decimal = Decimal(0)

    @property
    def key(self) -> Key:
        """Names the answer that it asks for."""
        return answer_key(self.step.question, self.page.image.sha256), self.step.question.max_tokens

    @property
    def most_bytes(self) -> int:
        """Bytes of the body that it takes up, at the most; known also while the image itself is not in memory."""
        return -(-self.page.image.sent_bytes // 3) * 4 + self.step.question.text_bytes * 2 + 2000 + AROUND


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a batch, without its image: all that its answer needs to be kept and listed."""

    key: str
    uri: str
    page: int
    sha256: str
    step: int
    attempt: int
    model: str
    max_tokens: int
    worst_usd: str = "0"

    @classmethod
    def of(cls, request: Request) -> "Asked":
        """What is asked in this request."""
        page, image = request.page, request.page.image
        key, room = request.key
        return cls(
            key=key,
            uri=page.uri,
            page=image.page,
            sha256=image.sha256,
            step=request.step.number,
            attempt=page.attempts_at[request.step.number] + 1,
            model=request.step.question.model,
            max_tokens=room,
            worst_usd=str(request.worst),
        )

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def fitting(requests: list[Request], most_bytes: int = MOST_BYTES) -> int:
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


def new_word() -> str:
    """A word that no other batch has."""
    return secrets.token_hex(16)


def custom_id(word: str, number: int) -> str:
    """The id of a request: of its batch, and its place in it."""
    return f"{word}-{number}"


def place_of(word: str, found: object) -> int | None:
    """Which request of the batch an id names; None for one of another batch."""
    if not isinstance(found, str):
        return None
    ours, _, number = found.partition("-")
    return int(number) if ours == word and number.isascii() and number.isdecimal() and len(number) < 7 else None
