"""Which cells an answer has, and how many are right of those that were wanted and those that were given.

The cells are of the part of a schema that the labels speak of. Items of lists are paired so that all pairs together
cost the least: by the Hungarian algorithm with potentials (Kuhn 1955, Munkres 1957; in the O(n^2 m) form of Jonker and
Volgenant 1987). SciPy has it too, in a package of 100 MB of which nothing else would be used.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tasks.schemas.arrow import holds_json
from tasks.schemas.boxes import corners
from tasks.schemas.tree import Node
from tasks.scoring.values import canonical, similarity

ENTRY = ("key", "value")  # of a map, which is compared as a list of its entries


@dataclass(frozen=True)
class Shape:
    """How a value is taken apart: one cell (text, another value, any JSON, a box), fields, or items."""

    kind: Literal["text", "value", "json", "box", "fields", "items"]
    fields: tuple[tuple[str, "Shape"], ...] = ()
    item: "Shape | None" = None


TEXT, VALUE, ANY, BOX = Shape("text"), Shape("value"), Shape("json"), Shape("box")


def shape_of(node: Node, labels: Iterable[Any] | None = None) -> Shape:
    """The cells of a node's values: all, or with `labels` those of whose names one label at least speaks."""
    known = None if labels is None else [label for label in labels if label is not None]
    if node.box:
        return BOX
    if node.kind == "object":
        named = None if not known else {name for label in known for name in label}
        kept = [child for child in node.properties if named is None or child.name in named]
        return Shape("fields", tuple((child.name, shape_of(child.node, _each(known, child.name))) for child in kept))
    if node.kind == "list":
        return Shape("items", item=shape_of(node.only, _flat(known)))
    if node.kind == "map":
        values = None if not known else [one for label in known for one in label.values()]
        entry = Shape("fields", tuple(zip(ENTRY, (TEXT, shape_of(node.only, values or None)), strict=True)))
        return Shape("items", item=entry)
    if holds_json(node):
        return ANY
    return TEXT if node.kind == "text" else VALUE


def _each(labels: list[Any] | None, name: str) -> list[Any] | None:
    return [label.get(name) for label in labels] if labels else None


def _flat(labels: list[Any] | None) -> list[Any] | None:
    return [one for label in labels for one in label] or None if labels else None


def entries(value: Any) -> list[Any]:
    """The items of a list; of a map, which Arrow gives as pairs, its entries."""
    if isinstance(value, Mapping):
        value = list(value.items())
    return [dict(zip(ENTRY, one, strict=True)) if isinstance(one, tuple) else one for one in value or ()]


Costs = npt.NDArray[np.float64]


def cheapest_pairs(costs: Costs) -> list[tuple[int, int]]:
    """Pairs of a row and a column, as many as the shorter side has, whose costs add up to the least; rows ascending."""
    if costs.size == 0:
        return []
    if costs.shape[0] > costs.shape[1]:
        return sorted((row, column) for column, row in cheapest_pairs(costs.T))
    rows, columns = costs.shape
    of_column: Any = np.zeros(columns + 1, np.int64)  # the row that holds it; 0 for none, rows count from 1
    row_potential, column_potential = np.zeros(rows + 1), np.zeros(columns + 1)
    for row in range(1, rows + 1):
        of_column[0], column = row, 0
        nearest, came_from = np.full(columns + 1, np.inf), np.zeros(columns + 1, np.int64)
        used = np.zeros(columns + 1, np.bool_)
        while of_column[column]:  # until the path ends at a column that nobody holds
            used[column] = True
            holder = of_column[column]
            reduced = costs[holder - 1] - row_potential[holder] - column_potential[1:]
            closer = ~used[1:] & (reduced < nearest[1:])
            nearest[1:][closer] = reduced[closer]
            came_from[1:][closer] = column
            following = int(np.where(used[1:], np.inf, nearest[1:]).argmin()) + 1
            step = nearest[following]
            row_potential[of_column[used]] += step
            column_potential[used] -= step
            nearest[~used] -= step
            column = following
        while column:
            before = came_from[column]
            of_column[column], column = of_column[before], int(before)
    return sorted((int(row) - 1, column) for column, row in enumerate(of_column[1:]) if row)


OVERLAP = 0.5  # intersection over union from which a box is right, as in grounding F1
NUDGE = 1e-3  # decides between pairs with equally many wrong cells: the more alike


@dataclass(frozen=True, slots=True)
class Tally:
    """Cells of one answer, or of a part of it.

    `solid` are right cells that hold something; `alike` are edit similarities of texts and `overlaps` IoU of boxes.
    """

    right: int = 0
    wanted: int = 0
    given: int = 0
    solid: int = 0
    alike: tuple[float, ...] = ()
    overlaps: tuple[float, ...] = ()

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.right + other.right,
            self.wanted + other.wanted,
            self.given + other.given,
            self.solid + other.solid,
            self.alike + other.alike,
            self.overlaps + other.overlaps,
        )

    @property
    def f1(self) -> float:
        """Value F1, between 0 and 1."""
        return 2 * self.right / (self.wanted + self.given) if self.wanted + self.given else 1.0

    @property
    def wrong(self) -> int:
        """Cells that were wanted and not given, or given and not wanted."""
        return self.wanted + self.given - 2 * self.right


def tally(shape: Shape, label: Any, answer: Any) -> Tally:
    """Compare an answer with the label, cell by cell; a missing key is null, and a right null counts."""
    if shape.kind == "fields":
        named, given = _named(label), _named(answer)
        return sum((tally(inner, named.get(name), given.get(name)) for name, inner in shape.fields), Tally())
    if shape.kind == "items":
        assert shape.item is not None
        return _items(shape.item, entries(label), entries(answer))
    if shape.kind == "box":
        return _box(label, answer)
    wanted, given = _cell(shape, label), _cell(shape, answer)
    right = wanted == given
    told = shape.kind == "text" and not (wanted is None and given is None)
    return Tally(right, 1, 1, right and wanted is not None, (similarity(wanted, given),) if told else ())


def _cell(shape: Shape, value: Any) -> Any:
    """The value as it is compared; what may be of any type is kept as JSON text in answers."""
    if shape.kind == "json" and isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    return canonical(value)


def failed(shape: Shape, label: Any) -> Tally:
    """What stands against an image without a good answer: nothing is right, not even a null."""
    return _missing(shape, label)


def _named(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _box(label: Any, answer: Any) -> Tally:
    wanted, given = corners(label), corners(answer)
    if wanted is None and given is None:
        return Tally(1, 1, 1)
    overlap = iou(wanted, given) if wanted and given else 0.0
    right = overlap >= OVERLAP
    return Tally(right, 1, 1, right, (), (overlap,))


Box = tuple[float, float, float, float]


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes: left, top, width, height."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    whole = first[2] * first[3] + second[2] * second[3] - shared
    return shared / whole if whole > 0 else float(first == second)


def _items(item: Shape, labels: list[Any], answers: list[Any]) -> Tally:
    if not labels and not answers:
        return Tally(1, 1, 1)
    found = Tally()
    labels, answers, same = _without_equal(item, labels, answers)
    for one in same:
        found += tally(item, one, one)
    pairs = [[tally(item, label, answer) for answer in answers] for label in labels]
    costs = np.array([[_cost(pair) for pair in row] for row in pairs], np.float64).reshape(len(labels), len(answers))
    paired = cheapest_pairs(costs)
    for row, column in paired:
        pair = pairs[row][column]
        found += pair if pair.solid else Tally(0, pair.wanted, pair.given, 0, pair.alike, pair.overlaps)
    for row in set(range(len(labels))) - {row for row, _ in paired}:
        found += _missing(item, labels[row])
    for column in set(range(len(answers))) - {column for _, column in paired}:
        extra = tally(item, None, answers[column])
        found += Tally(given=extra.given, alike=(0.0,) * len(extra.alike), overlaps=(0.0,) * len(extra.overlaps))
    return found


def _without_equal(item: Shape, labels: list[Any], answers: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """What is left of both lists without the items that are in both, and those.

    To pair equal items is always among the best: the number of wrong cells obeys the triangle inequality.
    """
    wanted, given = [_key(item, one) for one in labels], [_key(item, one) for one in answers]
    both = Counter(wanted) & Counter(given)
    same: list[Any] = []

    def left(items: list[Any], keys: list[str], into: list[Any] | None) -> list[Any]:
        taken, rest = Counter(both), []
        for one, key in zip(items, keys, strict=True):
            if taken[key]:
                taken[key] -= 1
                if into is not None:
                    into.append(one)
            else:
                rest.append(one)
        return rest

    return left(labels, wanted, same), left(answers, given, None), same


def _key(shape: Shape, value: Any) -> str:
    """The same text for values that are the same in every cell."""
    if shape.kind == "fields":
        named = _named(value)
        return repr([_key(inner, named.get(name)) for name, inner in shape.fields])
    if shape.kind == "items":
        assert shape.item is not None
        return repr(sorted(_key(shape.item, one) for one in entries(value)))
    return repr(corners(value) if shape.kind == "box" else _cell(shape, value))


def _missing(shape: Shape, label: Any) -> Tally:
    alone = tally(shape, label, None)
    return Tally(wanted=alone.wanted, alike=(0.0,) * len(alone.alike), overlaps=(0.0,) * len(alone.overlaps))


def _cost(pair: Tally) -> float:
    near = [*pair.alike, *pair.overlaps]
    return pair.wrong + NUDGE * (1 - sum(near) / len(near) if near else 1)
