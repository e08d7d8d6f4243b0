"""How far two readings of one image agree, field by field: what a person need not look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.scoring.cells import OVERLAP, Tally, tally
from tasks.scoring.shapes import Shape

# Two readings of a page of text hardly ever are equal to the letter, and nobody wants to see each of them.
LONG_TEXT, NEARLY = 200, 0.98


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one field: 0 to 1, and whether it is as good as whole."""

    share: float
    is_full: bool


def agreements(shape: Shape, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Agreement]:
    """For each field of two answers.

    A cell counts 1 where both are the same after dates, numbers and white space are normalised, a text else by its edit
    similarity, a box by its intersection over union (full from 0.5), all other cells 0; a list or an object is the mean
    of its cells, items paired. A text of over 200 characters is full from 0.98.
    """
    return {name: _agreement(inner, first.get(name), second.get(name)) for name, inner in shape.fields}


def _agreement(shape: Shape, first: Any, second: Any) -> Agreement:
    cells = tally(shape, first, second)
    share = _share(cells)
    long = shape.kind == "text" and isinstance(first, str) and len(first) > LONG_TEXT
    return Agreement(share, cells.wrong == 0 or (long and share >= NEARLY))


def _share(cells: Tally) -> float:
    near = sum(one for one in cells.alike if one < 1)  # of texts that are not the same
    boxes = sum(cells.overlaps) - sum(one >= OVERLAP for one in cells.overlaps)
    whole = cells.wanted + cells.given
    return 1.0 if not whole else min(max(2 * (cells.right + near + boxes) / whole, 0.0), 1.0)
