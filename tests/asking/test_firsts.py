"""Whose picture it was first, in a few bytes a picture."""

import hashlib
import tracemalloc

from tasks.asking.firsts import FIRST_SLOTS, Firsts, Place

PICTURES = 5 * FIRST_SLOTS


def key(number: int) -> str:
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    return f"answers/{digest[:2]}/{digest[2:]}"


def place(number: int) -> Place:
    return f"folder/\udcff größe {number // 1000:04}/{number:07}.png", number % 3 + 1


def test_every_copy_learns_whose_picture_it_was_first() -> None:
    firsts = Firsts()
    assert all(firsts.first(key(number), place(number)) == place(number) for number in range(PICTURES))
    for number in (0, 1, 63, 64, 1000, PICTURES - 1):
        assert firsts.first(key(number), ("a copy.png", 1)) == place(number)


def test_pictures_whose_keys_begin_alike_are_told_apart() -> None:
    firsts = Firsts()
    alike = [f"answers/ab/{'0' * 46}{number:016x}" for number in range(20)]
    assert [firsts.first(one, (one, 1)) for one in alike] == [(one, 1) for one in alike]
    assert [firsts.first(one, ("copy", 1)) for one in alike] == [(one, 1) for one in alike]


def test_a_picture_takes_a_tenth_of_what_its_uri_and_a_dictionary_would() -> None:
    firsts = Firsts()
    tracemalloc.start()
    try:
        for number in range(PICTURES):
            firsts.first(key(number), place(number))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / PICTURES < 50
