"""What is answered: text really read in the image where there is an OCR engine, otherwise the plain truth."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tasks.simulator.content import Image
from tasks.simulator.fields import Facts, asks_for_facts, find_facts
from tasks.simulator.fill import fill
from tasks.simulator.metering import ApiUsage, text_tokens, text_within
from tasks.simulator.rules import MessagesRequest

ABOUT_TEXT = re.compile(
    r"\b(text|read|transcri\w+|ocr|written|words?|receipts?|invoices?|documents?|letters?|forms?|bills?|labels? on)\b",
    re.IGNORECASE,
)
NO_TEXT = "[no text]"  # what our own prompts ask for where there is none
THINKING_TOKENS = {"low": 30, "medium": 90, "high": 180, "xhigh": 360, "max": 720}
FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF", "image/webp": "WebP"}


@dataclass(frozen=True, slots=True)
class Message:
    """The end of a message: its blocks, why it stopped, and what it used."""

    content: list[dict[str, Any]]
    stop_reason: str
    usage: ApiUsage
    stop_details: dict[str, Any] | None = None

    def message(self, message_id: str, model: str) -> dict[str, Any]:
        """The body of the response; the model's name says that it was simulated."""
        return {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": f"simulated/{model}",
            "content": self.content,
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "stop_details": self.stop_details,
            "usage": self.usage.body(),
        }


def wants_text(question: MessagesRequest) -> bool:
    """Whether reading the image's text can help to answer."""
    if not question.images:
        return False
    if question.schema is not None and asks_for_facts(question.schema):
        return True
    return question.schema is None and ABOUT_TEXT.search(question.text) is not None


def answer_text(question: MessagesRequest, read: str | None) -> str:
    """The answer's text: JSON where there is a schema; `read` is the image's text, None if nobody read it."""
    if question.schema is not None:
        facts = find_facts(read) if read is not None else Facts(remark=_plain_truth(question))
        return json.dumps(fill(question.schema, facts), ensure_ascii=False)
    if read is None:
        return _plain_truth(question)
    return read or (NO_TEXT if NO_TEXT in question.text else "")


def answer(question: MessagesRequest, text: str, prompt: ApiUsage) -> Message:
    """Wrap the text as the model would: thinking first, and no more tokens than `max_tokens`."""
    model = question.model
    thinking = min(_thinking_tokens(question), question.max_tokens)
    room = question.max_tokens - thinking
    content: list[dict[str, Any]] = []
    if question.thinks and question.max_tokens:
        content.append({"type": "thinking", "thinking": "", "signature": _signature(question)})
    used = text_tokens(text, model)
    cut = used > room
    if cut:
        text = text_within(text, room, model)
    if room > 0:
        content.append({"type": "text", "text": text})
    output = question.max_tokens if cut else thinking + used
    usage = replace(prompt, output=output, thinking=thinking)
    return Message(content, "max_tokens" if cut or not question.max_tokens else "end_turn", usage)


def refused(question: MessagesRequest, prompt: ApiUsage, *, empty: bool) -> Message:
    """A refusal before any word, or after a few."""
    text = "" if empty else "I can't help with this image. (simulated refusal)"
    used = text_tokens(text, question.model)
    content = [] if empty else [{"type": "text", "text": text}]
    details = {"type": "refusal", "category": None, "explanation": None}
    return Message(content, "refusal", replace(prompt, output=used), details)


def cut_answer(question: MessagesRequest, text: str, prompt: ApiUsage) -> Message:
    """An answer that used up `max_tokens` half-way: what the text leaves over was spent on thinking."""
    whole = answer(question, text[: len(text) // 2], prompt)
    left_over = question.max_tokens - whole.usage.output if question.thinks else 0
    output = question.max_tokens if question.thinks else whole.usage.output
    usage = replace(whole.usage, output=output, thinking=whole.usage.thinking + left_over)
    return replace(whole, stop_reason="max_tokens", usage=usage)


def _plain_truth(question: MessagesRequest) -> str:
    """One sentence that is different for each image and each question, and always the same for the same ones."""
    asked = hashlib.sha256(question.text.encode()).hexdigest()[:6]
    if not question.images:
        return f"This is visionflow's simulator, not a model (question {asked}, no image)."
    pictures = ", ".join(_describe(image) for image in question.images)
    return f"This is visionflow's simulator, not a model: it did not look at {pictures} (question {asked})."


def _describe(image: Image) -> str:
    name = FORMATS[image.media_type]
    return f"the {name} image of {image.width}x{image.height} pixels with SHA-256 {image.sha256[:12]}"


def _thinking_tokens(question: MessagesRequest) -> int:
    if not question.thinks:
        return 0
    base = THINKING_TOKENS[question.effort]
    # A model does not think equally long about every image; a cost report should not look as if it did.
    spread = int(question.images[0].sha256[:4], 16) % base if question.images else 0
    return base // 2 + spread


def _signature(question: MessagesRequest) -> str:
    identity = "".join(image.sha256 for image in question.images) + question.text
    return "simulated_" + hashlib.sha256(identity.encode()).hexdigest()


def garbage(schema: Mapping[str, Any] | None) -> str:
    """Words where JSON was asked for, nothing where words were."""
    return "Here is what I found: (simulated garbage)" if schema is not None else ""
