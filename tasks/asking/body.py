"""The request's body: the JSON of `messages.create` with the image's base64 text put in last.

A JSON encoder would look through every character of the image for something to escape, which costs more than all the
rest of a call. Base64 has nothing to escape (RFC 4648), so the text is joined in as it is.
"""

import base64
import json
from dataclasses import replace

from tasks.asking.question import Question, request
from tasks.types import PreparedImage

PLACE = "the image's base64 text goes here"
PATH = "/v1/messages"


class Bodies:
    """Bodies of requests; what surrounds the image is written once for each question and media type."""

    def __init__(self, *, caching: bool) -> None:
        self._caching = caching
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
        params = request(question, replace(image, data=b""), caching=self._caching)
        params["messages"][0]["content"][0]["source"]["data"] = PLACE
        before, _, after = json.dumps(params, ensure_ascii=False).encode().partition(PLACE.encode())
        return before, after
