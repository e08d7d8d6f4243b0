"""A reader whose errors are known: pictures with a truth of their own, and models that misread them at a given rate."""

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tasks.simulator import service
from tasks.simulator.rules import MessagesRequest

SCHEMA = {
    "type": "object",
    "properties": {
        "company": {"type": "string"},
        "date": {"type": "string", "format": "date"},
        "total": {"type": "number", "format": "decimal"},
    },
    "required": ["company", "date", "total"],
}


@dataclass
class Misreading:
    """Answers with the truth of each picture, spoilt at each model's rate; the same seed spoils the same readings.

    A share of the errors is in the picture itself: every reading of it makes the same one.
    """

    truths: Mapping[str, dict[str, Any]]
    """By the SHA-256 of the picture."""
    rates: Mapping[str, float]
    """How many of a model's answers are wrong."""
    hard: float = 0.0
    """How many pictures every reader misreads alike."""
    seed: int = 0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Misreading":
        """Let simulators of this process answer so."""
        monkeypatch.setattr(service, "answer_text", self.answer)
        return self

    def answer(self, question: MessagesRequest, _: str | None) -> str:
        """The text of an answer."""
        (image,) = question.images
        model = question.asked_model
        self.asked[image.sha256, model] += 1
        reading = f"{self.seed} {image.sha256} {model} {self.asked[image.sha256, model]}"
        value = dict(self.truths[image.sha256])
        if random.Random(f"{self.seed} {image.sha256}").random() < self.hard:
            value["company"] = value["company"].replace("l", "1")
        elif (chance := random.Random(reading)).random() < self.rates[model]:
            value["total"] = round(value["total"] + chance.randint(1, 9) / 10, 2)
        return json.dumps(value)


def truths_of(folder: Path) -> dict[str, dict[str, Any]]:
    """A truth for every picture of a folder, by the digest of its bytes, which are sent as they are."""
    return {
        sha256(path.read_bytes()).hexdigest(): {
            "company": f"Mill {number} & Sons Ltd",
            "date": f"2026-0{1 + number % 9}-1{number % 10}",
            "total": 10 + number / 4,
        }
        for number, path in enumerate(sorted(folder.iterdir()))
    }


def schema_file(folder: Path, schema: Mapping[str, Any] = SCHEMA) -> str:
    """A schema as a user has it, in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "receipt.json"
    path.write_text(json.dumps(schema))
    return str(path)
