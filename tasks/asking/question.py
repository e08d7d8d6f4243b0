"""What is asked about an image: the question, its fallbacks, and the request they become."""

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from config.models import ModelFacts
from tasks.types import PreparedImage

# A model that thinks spends part of max_tokens on it; without room on top, a short answer may come back empty.
THINKING_ROOM = {"low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": 32768}
# After a truncated answer the same question gets this many times the room, once.
MORE_ROOM = 4
# Characters of prose in one token, on the high side, so that a prompt said to be cached really is.
CHARACTERS_A_TOKEN = 5


@dataclass(frozen=True)
class Question:
    """Everything but the image that decides an answer.

    `room` is for the answer alone; `max_tokens`, which is sent, adds room for thinking on models that think.
    """

    endpoint: str
    facts: ModelFacts
    model: str
    prompt: str
    system: str | None = None
    schema: dict[str, Any] | None = None
    schema_in_prompt: bool = False
    room: int = 4096
    effort: str | None = None
    reading: int = 1  # 2 where the same is asked anew, and kept beside the first answer

    @property
    def max_tokens(self) -> int:
        """Tokens the answer may take, thinking included."""
        thinking = THINKING_ROOM[self.effort or "high"] if self.facts.thinking else 0
        return min(self.room + thinking, self.facts.max_output)

    @cached_property
    def digest(self) -> str:
        """Names the question in cache keys; the room is left out, since a complete answer stays right with more."""
        parts: list[Any] = [
            self.endpoint,
            self.model,
            self.prompt,
            self.system,
            self.schema,
            self.schema_in_prompt,
            self.effort,
        ]
        parts += [self.reading] if self.reading > 1 else []  # first readings keep the names they always had
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def prompt_sha256(self) -> str:
        """Digest of the prompt text alone, for grouping rows by prompt."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()

    def roomier(self) -> "Question | None":
        """The same question with more room for its answer, or None where the model allows no more."""
        more = replace(self, room=self.room * MORE_ROOM)
        return more if more.max_tokens > self.max_tokens else None

    @cached_property
    def text_bytes(self) -> int:
        """UTF-8 bytes of all text sent: never fewer than its tokens."""
        schema = json.dumps(self.schema) if self.schema else ""
        return len((self.prompt + (self.system or "") + schema).encode())

    @cached_property
    def system_tokens(self) -> int:
        """Tokens of the system prompt, at the least: the API counts them exactly, but asking it costs a call."""
        return len(self.system or "") // CHARACTERS_A_TOKEN

    @property
    def cacheable(self) -> bool:
        """Whether the system prompt is long enough for the model to cache it."""
        return self.facts.cache_min is not None and self.system_tokens >= self.facts.cache_min

    @property
    def cache_notice(self) -> str | None:
        """Why a system prompt is not cached, in one line; None where there is none or it is cached."""
        if not self.system or self.cacheable:
            return None
        if self.facts.cache_min is None:
            return f"The system prompt is not cached: how much {self.model} caches at least is not known."
        return (
            f"The system prompt is not cached: it has some {self.system_tokens:,} tokens, "
            f"and {self.model} caches from {self.facts.cache_min:,} on."
        )


SECOND = -1


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the fallback chain: 0 is the first prompt, then the fallback prompts, then the fallback models.

    A second reading is the step SECOND, whichever step it reads again.
    """

    number: int
    question: Question


def answer_key(question: Question, sent_sha256: str) -> str:
    """Where the answer is kept: the question and the bytes, whatever folder the image lies in."""
    digest = hashlib.sha256(f"{question.digest}:{sent_sha256}".encode()).hexdigest()
    return f"answers/{digest[:2]}/{digest[2:]}"


def request_key(key: str, room: int) -> bytes:
    """Names a request in few bytes: the answer that it asks for, and the room that its question leaves for it."""
    return bytes.fromhex(key[-32:]) + room.to_bytes(4)


def request(
    question: Question, image: PreparedImage, *, caching: bool = False, ttl: str | None = None
) -> dict[str, Any]:
    """Parameters of `messages.create`: the image first, then the prompt, as the API's guide advises.

    With `caching`, a system prompt that is surely long enough gets a cache breakpoint: all before the image is the
    same in every call.
    """
    source = {"type": "base64", "media_type": image.media_type, "data": base64.b64encode(image.data).decode("ascii")}
    prompt = question.prompt
    if question.schema and question.schema_in_prompt:
        prompt += "\n\nAnswer with one JSON object that fits this JSON Schema, and with nothing else:\n" + json.dumps(
            question.schema, ensure_ascii=False
        )
    params: dict[str, Any] = {
        "model": question.model,
        "max_tokens": question.max_tokens,
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": prompt}]}
        ],
    }
    if question.system:
        params["system"] = question.system
        if caching and question.cacheable:
            control = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}
            params["system"] = [{"type": "text", "text": question.system, "cache_control": control}]
    output_config: dict[str, Any] = {}
    if question.effort and question.facts.effort:
        output_config["effort"] = question.effort
    if question.schema and not question.schema_in_prompt:
        output_config["format"] = {"type": "json_schema", "schema": question.schema}
    if output_config:
        params["output_config"] = output_config
    return params


PLACE = "the image's base64 text goes here"
PATH = "/v1/messages"


class Bodies:
    """Bodies of requests; what surrounds the image is written once for each question and media type."""

    def __init__(self, *, caching: bool, ttl: str | None = None) -> None:
        """`ttl` is for how long a cached system prompt is kept; five minutes if not given."""
        self._caching = caching
        self._ttl = ttl
        self._around: dict[tuple[str, int, str], tuple[bytes, bytes]] = {}

    def body(self, question: Question, image: PreparedImage) -> bytes:
        """The body of one request, as UTF-8 JSON."""
        key = (question.digest, question.max_tokens, image.media_type)
        around = self._around.get(key)
        if around is None:
            around = self._around[key] = self._written(question, image)
        before, after = around
        return b"".join((before, base64.b64encode(image.data), after))

    def _written(self, question: Question, image: PreparedImage) -> tuple[bytes, bytes]:
        params = request(question, replace(image, data=b""), caching=self._caching, ttl=self._ttl)
        params["messages"][0]["content"][0]["source"]["data"] = PLACE
        before, _, after = json.dumps(params, ensure_ascii=False).encode().partition(PLACE.encode())
        return before, after
