"""A fuzzer that knows the structure of what it breaks: `make fuzz`, or `python -m tests.fuzz --seconds 300 --start 0`.

A case is a number: from it come a file of the golden set, the samples or the rare kinds, and what is done to it. So a
finding is repeated by `--case N`, and its file kept by `--write FILE`.

Whatever comes of it, the file has to end as images within the rules or as an ImageError, in a listing, an estimate and
a run, with at most a second of the parent's processor, and with no more of its memory than stated.
"""

import argparse
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tasks.errors import ImageError
from tasks.preparing import image_header, prepare_image, sniff_format
from tasks.types import ImageRules
from tests.golden import golden_files
from tests.image_writers import icc_profile, png_chunk
from tests.preparing.test_second_reader import RARE
from tests.structure import PROLOGUES, get, put, structure_of, with_right_checksums

RULES = ImageRules(max_edge=512, quality=75, model_edge=1568, model_tokens=1568, max_pixels=20_000_000, seconds=20)
CODES = {
    *("empty", "not_an_image", "truncated", "damaged", "too_many_pixels", "too_large", "unsupported", "unsafe"),
    *("too_slow", "interrupted"),
}
SECOND = 1.0
SEED_BYTES = 400_000  # larger files only take longer
MEMORY_BYTES = 500_000_000  # by which the parent may grow over a whole session
EDGES = sorted({value for power in (0, 7, 8, 15, 16, 24, 31, 32, 63, 64) for value in (2**power - 1, 2**power, 0)})

Mutation = Callable[[bytes, random.Random], bytes]


@cache
def seeds() -> list[tuple[str, bytes]]:
    """Valid files of every format that is read, and beginnings of some that are not."""
    found = [(name, golden.data) for name, golden in golden_files().items()]
    found += [(path.name, path.read_bytes()) for path in sorted(Path("data/samples").iterdir()) if path.is_file()]
    found += [(name, make()) for name, (make, _) in RARE.items()]
    found += [("prologue", prologue) for prologue in PROLOGUES]
    return [(name, data) for name, data in found if len(data) <= SEED_BYTES and "bomb" not in name]


def change_number(data: bytes, chance: random.Random) -> bytes:
    """A length, offset, count or size becomes another one."""
    numbers = structure_of(data).numbers
    if not numbers:
        return flip(data, chance)
    number = chance.choice(numbers)
    value = get(data, number)
    return put(data, number, chance.choice([*EDGES, len(data), len(data) - 1, value + 1, value - 1, value * 2]))


def borrow_number(data: bytes, chance: random.Random) -> bytes:
    """One number takes another's value: directories in circles, boxes in themselves."""
    numbers = structure_of(data).numbers
    if len(numbers) < 2:
        return flip(data, chance)
    target, source = chance.sample(numbers, 2)
    return put(data, target, get(data, source))


def repeat_piece(data: bytes, chance: random.Random) -> bytes:
    """A piece stands there twice, or thousands of times."""
    start, end = piece(data, chance)
    times = min(chance.choice([1, 2, 50, 3000]), 2 * SEED_BYTES // (end - start) + 1)
    return data[:end] + data[start:end] * times + data[end:]


def drop_piece(data: bytes, chance: random.Random) -> bytes:
    """A piece is missing."""
    start, end = piece(data, chance)
    return data[:start] + data[end:]


def swap_pieces(data: bytes, chance: random.Random) -> bytes:
    """Two pieces change places."""
    (a, b), (c, d) = sorted([piece(data, chance), piece(data, chance)])
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:] if b <= c else data


def nest(data: bytes, chance: random.Random) -> bytes:
    """A piece inside of itself."""
    start, end = piece(data, chance)
    middle = start + (end - start) // 2
    for _ in range(chance.choice([1, 3, 12])):
        data = data[:middle] + data[start:end] + data[middle:]
        if len(data) > 2 * SEED_BYTES:
            break
    return data


def splice(data: bytes, chance: random.Random) -> bytes:
    """The beginning of one file and the end of another, cut between pieces."""
    _, other = chance.choice(seeds())
    return data[: cut(data, chance)] + other[cut(other, chance) :]


def implant(data: bytes, chance: random.Random) -> bytes:
    """Another file, or the beginning of one, in between."""
    _, other = chance.choice(seeds())
    at = cut(data, chance)
    return data[:at] + other[: chance.choice([8, 64, 1000, len(other)])] + data[at:]


def add_block(data: bytes, chance: random.Random) -> bytes:
    """An EXIF block, a profile or a text of its own, which is a small file in the file."""
    block = chance.choice(
        [
            b"Exif\0\0" + chance.choice([b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+"]) + chance.randbytes(60),
            b"ICC_PROFILE\0\1\1" + mutate_once(icc_profile(((0.4, 0.2, 0.0),) * 3, 2.2), chance),
            b'http://ns.adobe.com/xap/1.0/\0tiff:Orientation="' + chance.choice([b"9", b" " * 500 + b"6", b"6"]),
            b"MPF\0II*\0\x08\0\0\0" + chance.randbytes(60),
        ]
    )
    if data.startswith(b"\xff\xd8"):
        marker = b"\xff\xe2" if block[:3] in (b"ICC", b"MPF") else b"\xff\xe1"
        return data[:2] + marker + min(2 + len(block), 65_535).to_bytes(2, "big") + block + data[2:]
    if data.startswith(b"\x89PNG"):
        name = chance.choice([b"eXIf", b"iCCP", b"zTXt", b"tEXt", b"iTXt"])
        body = chance.choice([block[6:], b"Raw profile type exif\0\0" + block, b"XML:com.adobe.xmp\0" + block])
        return data[:33] + png_chunk(name, body) + data[33:]
    return implant(data, chance)


def say_otherwise(data: bytes, chance: random.Random) -> bytes:
    """Words of markup and first bytes, at the beginning, between pieces or again and again."""
    said = b"".join(chance.choice(PROLOGUES) * chance.choice([1, 1, 60, 2000]) for _ in range(chance.randint(1, 4)))
    at = chance.choice([0, cut(data, chance)])
    return data[:at] + said[:SEED_BYTES] + data[at:]


def truncate(data: bytes, chance: random.Random) -> bytes:
    """The end is missing."""
    return data[: chance.choice([cut(data, chance), chance.randrange(len(data) + 1), len(data) - 1])]


def flip(data: bytes, chance: random.Random) -> bytes:
    """Some bytes are others."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 2, 8])):
        if changed:
            changed[min(int(len(changed) * chance.random() ** 3), len(changed) - 1)] = chance.randrange(256)
    return bytes(changed)


MUTATIONS: list[Mutation] = [
    *(change_number, change_number, change_number, borrow_number, repeat_piece, drop_piece, swap_pieces, nest, splice),
    *(implant, add_block, say_otherwise, truncate, flip),
]


def cut(data: bytes, chance: random.Random) -> int:
    """A place between two pieces."""
    return chance.choice(structure_of(data).cuts or [len(data) // 2])


def piece(data: bytes, chance: random.Random) -> tuple[int, int]:
    """Where a piece begins and ends."""
    cuts = [0, *structure_of(data).cuts, len(data)]
    at = chance.randrange(len(cuts) - 1)
    return cuts[at], cuts[at + 1]


def mutate_once(data: bytes, chance: random.Random) -> bytes:
    """The file with one thing done to it."""
    return chance.choice(MUTATIONS)(data, chance)[: 4 * SEED_BYTES] if data else data


def case(number: int) -> tuple[str, bytes]:
    """The file of a case, and what it was made of."""
    chance = random.Random(number)
    name, data = chance.choice(seeds())
    for _ in range(chance.choice([1, 1, 2, 3, 5])):
        data = mutate_once(data, chance)
    return name, with_right_checksums(data) if chance.random() < 0.8 else data


@dataclass
class Session:
    """What was seen: how files ended, and what must not be."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    findings: list[str] = field(default_factory=list)

    def run(self, number: int) -> None:
        """One case."""
        name, data = case(number)
        for read in (sniff_start, header, prepare):
            start = time.thread_time()
            try:
                outcome = read(data)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                outcome = f"{type(error).__name__}: {error}"
                self.findings.append(f"case {number} ({name}), {read.__name__}: {outcome}")
            took = time.thread_time() - start
            self.slowest = max(self.slowest, (took, number))
            if took > SECOND:
                self.findings.append(f"case {number} ({name}), {read.__name__}: {took:.1f} s of the parent's processor")
        self.outcomes[outcome] += 1
        if outcome in ("crashed", "too_slow"):
            self.findings.append(f"case {number} ({name}): {outcome}, which the child bore")


def sniff_start(data: bytes) -> str:
    """As a listing does."""
    return sniff_format(data[:4096]) or "none"


def header(data: bytes) -> str:
    """As an estimate does, from the beginning and from all."""
    for part in (data[:65_536], data):
        try:
            found = image_header(part)
        except ImageError as error:
            outcome = checked(error)
        else:
            assert found.width > 0 and found.height > 0 and found.pages > 0, found
            outcome = "ok"
    return outcome


def prepare(data: bytes) -> str:
    """As a run does."""
    try:
        pages = prepare_image(data, RULES)
    except ImageError as error:
        return checked(error)
    assert pages
    for page in pages:
        assert max(page.width, page.height) <= RULES.max_edge
        assert page.sent_bytes * 4 / 3 <= RULES.max_base64_bytes + 4
        assert sniff_format(page.data) in ("JPEG", "PNG", "GIF", "WEBP")
    return "ok"


def checked(error: ImageError) -> str:
    """Its code; a message is one line that fits a table."""
    assert error.code in CODES, error.code
    assert "\n" not in str(error) and len(str(error)) < 400, str(error)
    return "crashed" if "crashed" in str(error) else error.code


def main() -> int:
    """Run for so many seconds; exit 1 on a finding."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--start", type=int, default=random.SystemRandom().randrange(10**9))
    options.add_argument("--case", type=int)
    options.add_argument("--write", type=Path)
    given = options.parse_args()
    if given.write:
        given.write.write_bytes(case(given.case)[1])
    session, before = Session(), peak()
    until, number = time.monotonic() + given.seconds, given.start if given.case is None else given.case
    while (given.case is None and time.monotonic() < until) or number == given.case:
        session.run(number)
        number += 1
    grown = peak() - before
    if grown > MEMORY_BYTES:
        session.findings.append(f"the parent grew by {grown / 1e6:,.0f} MB")
    print(f"{sum(session.outcomes.values()):,} cases from {given.start}, {len(seeds())} files to begin with")
    print("outcomes:", ", ".join(f"{count:,} {outcome}" for outcome, count in session.outcomes.most_common()))
    took, slowest = session.slowest
    print(f"slowest in the parent: {took:.3f} s (case {slowest}); it grew by {grown / 1e6:,.0f} MB")
    print(*session.findings or ["no finding"], sep="\n")
    return 1 if session.findings else 0


def peak() -> int:
    """Bytes that this process had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
