"""What is put into a Message Batch, and the body that carries it, made while it is sent: never held as a whole."""

import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tasks.asking.pages import Page
from tasks.asking.question import Bodies, Question, Step, answer_key

MOST_REQUESTS = 100_000
# The API takes 256 MB. A quarter of it holds hundreds of images all the same, and waiting for one large batch or for
# four small ones at once takes as long, while their images have to be in memory until they are sent.
MOST_BYTES = 64_000_000
BEGIN, BETWEEN, END = b'{"requests":[', b",", b"]}"
AROUND = 64 + len('{"custom_id":"","params":},')  # bytes of one request beside its parameters, at the most


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

    @classmethod
    def of(cls, page: Page, step: Step) -> "Asked":
        """What is asked about a page in this step."""
        question, image = step.question, page.image
        key = answer_key(question, image.sha256)
        number = page.attempts + 1
        return cls(key, page.uri, image.page, image.sha256, step.number, number, question.model, question.max_tokens)

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def packed(pages: Iterable[Page], question: Question, *, most_bytes: int = MOST_BYTES) -> Iterator[list[Page]]:
    """Pages in batches by the API's limits, in order; none is empty, and no body is beyond `most_bytes`."""
    batch: list[Page] = []
    size = 0
    around = question.text_bytes * 2 + 2000  # of JSON, escaped
    for page in pages:
        bytes_of = -(-len(page.image.data) // 3) * 4 + around + AROUND
        if batch and (size + bytes_of > most_bytes or len(batch) == MOST_REQUESTS):
            yield batch
            batch, size = [], 0
        batch.append(page)
        size += bytes_of
    if batch:
        yield batch


class Body:
    """The body of one `create`, piece by piece; its ids begin with the batch's own word, so that it is known again."""

    def __init__(self, word: str, pages: list[Page], question: Question, bodies: Bodies) -> None:
        self._word = word
        self._pages = pages
        self._question = question
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
        for number, page in enumerate(self._pages):
            head = f'{{"custom_id":"{custom_id(self._word, number)}","params":'.encode()
            between = BETWEEN if number else b""
            yield b"".join((between, head, self._bodies.body(self._question, page.image), b"}"))
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
