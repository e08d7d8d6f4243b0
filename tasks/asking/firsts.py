"""Which page of a run had a picture first: some 30 bytes a picture, for a run may have a million.

A picture is found by 128 bits of its answer's key; whose it was is compressed, and looked up only for a copy.
"""

import json
import zlib
from array import array

TOGETHER = 64  # places that are compressed together: a copy reads so many to find one
FIRST_SLOTS = 1024
FULL = 3  # of 5 slots: more, and looking for one takes long

Place = tuple[str, int]  # a file's URI, and the number of the page


class Firsts:
    """A table of pictures with open addressing. Lives on one event loop."""

    def __init__(self) -> None:
        self._slots = array("I", bytes(FIRST_SLOTS * array("I").itemsize))  # numbers of pictures, from 1 on
        self._heads, self._tails = array("Q"), array("Q")
        self._packed: list[bytes] = []
        self._loose: list[Place] = []

    def first(self, key: str, place: Place) -> Place:
        """Whose picture this was first: the place that is given, if it is new."""
        head, tail = int(key[-32:-16], 16), int(key[-16:], 16)
        slot = self._slot(head, tail)
        if number := self._slots[slot]:
            return self._place(number - 1)
        self._heads.append(head)
        self._tails.append(tail)
        self._slots[slot] = len(self._heads)
        self._loose.append(place)
        if len(self._loose) == TOGETHER:
            self._packed.append(zlib.compress(json.dumps(self._loose).encode(), 1))
            self._loose.clear()
        if len(self._heads) * 5 > len(self._slots) * FULL:
            self._grow()
        return place

    def _slot(self, head: int, tail: int) -> int:
        """Where the picture is, or belongs."""
        last = len(self._slots) - 1
        slot = head & last
        while (number := self._slots[slot]) and (self._heads[number - 1], self._tails[number - 1]) != (head, tail):
            slot = (slot + 1) & last
        return slot

    def _place(self, number: int) -> Place:
        part, at = divmod(number, TOGETHER)
        places = self._loose if part == len(self._packed) else json.loads(zlib.decompress(self._packed[part]))
        uri, page = places[at]
        return uri, page

    def _grow(self) -> None:
        self._slots = array("I", bytes(2 * len(self._slots) * self._slots.itemsize))
        last = len(self._slots) - 1
        for number, head in enumerate(self._heads, 1):
            slot = head & last
            while self._slots[slot]:
                slot = (slot + 1) & last
            self._slots[slot] = number
