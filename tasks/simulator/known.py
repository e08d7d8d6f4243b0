"""Answers from labels: what an image shows is known, and a share of it is given wrong, by model and sent size.

`truth` names labels as `visionflow compare` takes them, `images` the folder of their images (default: the labels' own).
An image is known again, however it was shrunk or encoded, by a small grey picture of it; one that is not known is
answered as always. `errors` is a list of `MODEL=SHARE` or `MODEL@EDGE=SHARE`: so large a share of the values is wrong
in answers of that model, or of that model to images of at most so many pixels a side; `*` stands for every other model.
Which values are wrong depends on the seed, model, size, prompt and image, and on nothing else.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageOps

from tasks.labelling.truth import Label, Names, read_truth
from tasks.listing import list_images
from tasks.schemas.boxes import corners
from tasks.scoring.values import collapsed, date_in, number_in
from tasks.simulator.content import Image
from tasks.simulator.faults import Settings
from tasks.simulator.fields import Facts
from tasks.simulator.fill import fill
from tasks.simulator.rules import MessagesRequest
from tasks.simulator.schema_rules import target_of

Misses = Callable[[str], bool]  # whether the value at a path of the answer is to be wrong
DIGITS, LOWER, UPPER = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

SIDE = 64  # pixels of the small grey picture
FARTHEST = 12.0  # grey levels of 255 that two pictures of the same image differ by, on average

Grey = npt.NDArray[np.float32]


def chance(*parts: object) -> float:
    """A number from 0 to 1 that is always the same for the same parts."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Spoiler:
    """Writes a label as an answer to a schema; null stays null, so that what is wrong is wrong in a value."""

    def __init__(self, schema: Mapping[str, Any], misses: Misses, scale: tuple[float, float]) -> None:
        self._root = schema
        self._misses = misses
        self._scale = scale  # from pixels of the original to those of the image as sent

    def answer(self, label: Mapping[str, Any]) -> Any:
        """The whole answer."""
        return self._value(self._root, label, "$")

    def _value(self, schema: Any, label: Any, path: str) -> Any:
        schema = self._chosen(schema, label)
        if schema.get("type") == "object" or "properties" in schema:
            return self._object(schema, label if isinstance(label, Mapping) else {}, path)
        if schema.get("type") == "array":
            items = label if isinstance(label, list) else []
            return [self._value(schema.get("items", {}), one, f"{path}[{at}]") for at, one in enumerate(items)]
        if label is None or schema.get("type") == "null":
            return None if schema.get("type") == "null" else fill(schema, Facts())
        if "enum" in schema:
            return self._one_of(schema["enum"], label, path)
        return self._scalar(schema, label, path)

    def _chosen(self, schema: Any, label: Any) -> dict[str, Any]:
        """The schema itself, or of several types the one that takes the label."""
        while isinstance(schema, dict) and "$ref" in schema:
            schema = target_of(self._root, schema["$ref"])
        branches = schema.get("anyOf") if isinstance(schema, dict) else None
        if not branches:
            return schema if isinstance(schema, dict) else {}
        kinds = [self._chosen(branch, label) for branch in branches]
        nulls = [kind for kind in kinds if kind.get("type") == "null"]
        return nulls[0] if label is None and nulls else next(kind for kind in kinds if kind.get("type") != "null")

    def _object(self, schema: Mapping[str, Any], label: Mapping[str, Any], path: str) -> dict[str, Any]:
        properties, box = schema.get("properties", {}), corners(label)
        if box is not None and {"left", "top", "right", "bottom"} <= set(properties):
            return self._box(box, path)
        wanted = [name for name in properties if name in schema.get("required", ()) or label.get(name) is not None]
        return {name: self._value(properties[name], label.get(name), f"{path}.{name}") for name in wanted}

    def _box(self, box: tuple[float, float, float, float], path: str) -> dict[str, int]:
        """The box as the model sees it; a wrong one stands beside, so that the two share nothing."""
        left, top, width, height = box
        if self._misses(path):
            left = left - width if left >= width else left + width
        across, down = self._scale
        sides = {"left": left * across, "top": top * down}
        sides |= {"right": (left + width) * across, "bottom": (top + height) * down}
        return {side: max(0, round(value)) for side, value in sides.items()}

    def _one_of(self, values: list[Any], label: Any, path: str) -> Any:
        right = next((value for value in values if str(value) == str(label)), values[0])
        others = [value for value in values if value not in (right, None)]
        return others[int(chance(path, label) * len(others))] if others and self._misses(path) else right

    def _scalar(self, schema: Mapping[str, Any], label: Any, path: str) -> Any:
        miss = self._misses(path)
        kind, text = schema.get("type"), collapsed(str(label))
        if kind == "boolean":
            return (text.casefold() in ("true", "yes", "1")) != miss
        if kind in ("integer", "number"):
            number = float(number_in(text, amount=True) or 0) + miss
            return int(number) if kind == "integer" else number
        if schema.get("format") == "date":
            day = label if isinstance(label, date) else date_in(text, day_first=True)
            return text if day is None else str(day + timedelta(days=int(miss)))
        if number_in(text) is None and (amount := number_in(text, amount=True)) is not None:
            text = f"{amount:f}"  # a model gives the number alone where one is asked for
        return spoilt(text) if miss else text


def spoilt(text: str) -> str:
    """The text with one letter or digit, in a place that depends on the text, replaced by the next of its kind."""
    places = [at for at, one in enumerate(text) if one in DIGITS + LOWER + UPPER]
    if not places:
        return f"{text}x"
    at = places[int(chance("place", text) * len(places))]
    kind = next(kind for kind in (DIGITS, LOWER, UPPER) if text[at] in kind)
    # Never a zero in front, which would be the text of another number or of none.
    following = kind[(kind.index(text[at]) + 1) % len(kind)]
    return f"{text[:at]}{'1' if following == '0' else following}{text[at + 1 :]}"


@dataclass(frozen=True)
class Rates:
    """The share of wrong values by model and by the longest side that it goes up to."""

    shares: Mapping[tuple[str, float], float]

    @classmethod
    def parse(cls, text: str) -> "Rates":
        """Raises ValueError for a list that is none."""
        shares: dict[tuple[str, float], float] = {}
        for entry in filter(None, map(str.strip, text.split(","))):
            name, equals, share = entry.partition("=")
            model, _, edge = name.partition("@")
            try:
                shares[model.strip(), float(edge or "inf")] = float(share)
            except ValueError:
                equals = ""
            if not equals or not 0 <= shares[model.strip(), float(edge or "inf")] <= 1:
                raise ValueError(f"{entry!r} is no MODEL=SHARE or MODEL@EDGE=SHARE with a share from 0 to 1")
        return cls(shares)

    def of(self, model: str, edge: int) -> float:
        """The share for a model and an image of this longest side."""
        for name in (model, "*"):
            edges = [most for known, most in self.shares if known == name and edge <= most]
            if edges:
                return self.shares[name, min(edges)]
        return 0.0


class Known:
    """The labels of a sample, found by what an image looks like."""

    def __init__(self, pictures: Sequence[tuple[Label, Grey, tuple[int, int]]], settings: Settings) -> None:
        self._labels = [label for label, _, _ in pictures]
        self._pictures = np.stack([grey for _, grey, _ in pictures])
        self._sizes = [size for _, _, size in pictures]
        self._seed = settings.seed
        self._rates = Rates.parse(settings.errors)
        self._found: dict[str, int | None] = {}

    @classmethod
    def of(cls, settings: Settings) -> "Known | None":
        """What the settings say is known. Raises ValueError, or as reading the labels does."""
        if not settings.truth:
            if settings.errors:
                raise ValueError("errors without labels to spoil: name them with --truth FILE")
            return None
        place = Path(settings.truth).expanduser()
        folder = settings.images or str(place if place.is_dir() else place.parent)
        images = list_images(folder).images
        names = Names(images, Path(folder))
        pictures = []
        for label in read_truth(settings.truth):
            at = names.position(label.image)
            seen = _seen(Path(images[at].uri).read_bytes(), label.page) if at is not None else None
            if seen is not None:
                pictures.append((label, *seen))
        if not pictures:
            raise ValueError(f"no image of {settings.truth} lies in {folder}: name their folder with --images")
        return cls(pictures, settings)

    def answer(self, question: MessagesRequest) -> str | None:
        """The answer's text; None for a question about no image, several, or one that is not known."""
        if len(question.images) != 1:
            return None
        image = question.images[0]
        at = self._position(image)
        if at is None:
            return None
        label = self._labels[at]
        model, edge = question.asked_model, max(image.width, image.height)
        rate = self._rates.of(model, edge)

        def misses(path: str) -> bool:
            return chance(self._seed, model, edge, question.text, label.image, label.page, path) < rate

        if question.schema is None:
            text = str(next(iter(label.fields.values()), ""))
            return spoilt(text) if misses("$") else text
        width, height = self._sizes[at]
        spoiler = Spoiler(question.schema, misses, (image.width / width, image.height / height))
        return json.dumps(spoiler.answer(label.fields), ensure_ascii=False, default=str)

    def _position(self, image: Image) -> int | None:
        if image.sha256 not in self._found:
            seen = _seen(image.data, 1)
            self._found[image.sha256] = None if seen is None else self._nearest(seen[0])
        return self._found[image.sha256]

    def _nearest(self, grey: Grey) -> int | None:
        distances: Any = np.abs(self._pictures - grey).mean(axis=(1, 2))
        nearest = int(distances.argmin())
        return nearest if distances[nearest] <= FARTHEST else None


@lru_cache(256)
def _seen(data: bytes, page: int) -> tuple[Grey, tuple[int, int]] | None:
    """The small grey picture of an image, upright, and its size; None where Pillow cannot read it."""
    try:
        with Pillow.open(BytesIO(data)) as opened:
            opened.seek(page - 1)
            upright = ImageOps.exif_transpose(opened)
            grey = upright.convert("L").resize((SIDE, SIDE), Pillow.Resampling.BOX)
            return np.asarray(grey, np.float32), upright.size
    except (OSError, ValueError, EOFError, Pillow.DecompressionBombError):
        return None
