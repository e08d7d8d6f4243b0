"""Small records on S3 in packs: one object for all that were kept at about the same time.

A record as an object of its own costs a request to look for it, and one to write it. Here those that are kept within
`GATHER_S` are one PUT, and the packs of one process become larger ones of `FULL` bytes. Whoever looks for records
lists the packs and reads them once; from then on it is known which records there are, and where each lies.

A line of a pack is a key, a space and the record, which has its own checksum. Packs are named by the time at which they
were written: of two records with one key the one in the later pack is meant. A pack is never changed. Records that
earlier versions wrote as objects of their own are found as well.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from time import time_ns

from tasks.storage.grouped import Grouped
from tasks.storage.s3 import names_below, read_object, read_range, remove_objects, there, without_scheme, write_object

FOLDER = "packs"
GATHER_S = 0.25
FULL = 262_144  # bytes, some 400 answers
READERS = 16
AHEAD = 65_536  # bytes read of a pack for one record: its neighbours are asked for next
HELD = 16  # such pieces

Place = tuple[str, int, int]  # a pack, and where in it a record begins and ends


class Packs:
    """The records below a prefix on S3. But for `put`, its coroutines run on the file system's own event loop."""

    def __init__(self, uri: str, prefix: str) -> None:
        """Keys begin with `prefix`, a folder's name and a slash."""
        self._uri, self._prefix = uri, prefix
        self._places: dict[str, Place] = {}
        self._known: set[str] = set()  # packs
        self._alone = True  # whether there may be records that are objects of their own
        self._looked, self._first_look = False, asyncio.Lock()
        self._ours: dict[str, bytes] = {}  # packs of this process that are not full
        self._pieces: deque[tuple[Place, asyncio.Task[bytes]]] = deque(maxlen=HELD)
        self._putting = Grouped(self._put_all, GATHER_S)
        self._looking = Grouped[None](self._look)

    async def put(self, key: str, record: bytes) -> None:
        """Keep a record; it is durable when this returns. For whatever event loop. Raises what S3 does."""
        await self._putting.add((key, record))

    def lacks(self, key: str) -> bool:
        """Whether it is known, without a request, that there was no such record at the last look."""
        return self._looked and not self._alone and key not in self._places

    async def look(self) -> None:
        """Take in what other processes have kept by now. Raises what S3 does."""
        await self._looking.add(None)

    async def keys(self) -> list[str]:
        """All there are in packs now."""
        await self.look()
        return list(self._places)

    async def read(self, key: str) -> bytes:
        """The record as it was put. FileNotFoundError if there is none, or what S3 raises."""
        async with self._first_look:
            if not self._looked:
                await self.look()
        for _ in range(2):
            if (place := self._places.get(key)) is not None:
                with suppress(FileNotFoundError):
                    return await self._piece(place)
                await self.look()  # it is in a larger pack now
        if not self._alone:
            raise FileNotFoundError(key)
        return (await read_object(f"{self._uri}/{key}"))[0]

    async def drop(self, key: str) -> bool:
        """Write the pack of a record anew without it; whether it was in one."""
        if (place := self._places.pop(key, None)) is None:
            return False
        pack, start, end = place
        data = await _whole(pack)
        await self._write(data[: start - len(key.encode()) - 1] + data[end + 1 :])
        self._ours.pop(pack, None)
        await remove_objects([pack])
        return True

    async def merge(self) -> None:
        """Make one pack of those of this process that are not full."""
        if len(self._ours) > 1:
            ours, self._ours = self._ours, {}
            await self._write(b"".join(ours.values()))
            await remove_objects(list(ours))

    async def _put_all(self, records: list[tuple[str, bytes]]) -> None:
        await there(self._put(b"".join(b"%s %s\n" % (key.encode(), record) for key, record in records)))

    async def _put(self, data: bytes) -> None:
        self._ours[await self._write(data)] = data
        if sum(map(len, self._ours.values())) >= FULL:
            with suppress(Exception):  # each storage has errors of its own; it is kept all the same
                await self.merge()

    async def _write(self, data: bytes) -> str:
        name = f"{self._uri}/{FOLDER}/{time_ns():020}-{secrets.token_hex(4)}"
        await write_object(without_scheme(name), data)
        self._take_in(name, data)
        return name

    async def _look(self, _: Iterable[None]) -> None:
        """Packs that vanish while they are read are in a larger one, which is in the next listing."""
        looked, missing = self._looked, True
        while missing:
            names = await names_below(f"{self._uri}/{FOLDER}")
            new = [name for name in names if name not in self._known]
            missing = False
            for first in range(0, len(new), READERS):
                some = new[first : first + READERS]
                for name, data in zip(some, await asyncio.gather(*map(_whole_or_none, some)), strict=True):
                    if data is None:
                        missing = True
                    else:
                        self._take_in(name, data)
        if not looked:
            self._alone = bool(await names_below(f"{self._uri}/{self._prefix.rstrip('/')}", most=1))
            self._looked = True

    def _take_in(self, pack: str, data: bytes) -> None:
        self._known.add(pack)
        for key, start, end in _records(data):
            before = self._places.get(key)
            if before is None or before[0] <= pack:
                self._places[key] = (pack, start, end)

    async def _piece(self, place: Place) -> bytes:
        """From the piece of the pack that was read for a neighbour, or from one read now."""
        pack, start, end = place
        read = (piece for piece in self._pieces if piece[0][0] == pack and piece[0][1] <= start and end <= piece[0][2])
        piece = next(read, None)
        if piece is None:
            last = max(end, start + AHEAD)
            reading = asyncio.create_task(read_range(without_scheme(pack), start, last))
            piece = ((pack, start, last), reading)
            self._pieces.append(piece)
        (_, first, _), reading = piece
        try:
            return (await asyncio.shield(reading))[start - first : end - first]
        except BaseException:
            self._pieces = deque((other for other in self._pieces if other is not piece), maxlen=HELD)
            raise


def _records(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Keys of a pack, and where the record of each begins and ends. A line without a key is left out."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        space = data.find(b" ", start, end)
        if space > 0:
            yield data[start:space].decode(errors="replace"), space + 1, end
        start = end + 1


async def _whole(pack: str) -> bytes:
    return (await read_object(pack))[0]


async def _whole_or_none(pack: str) -> bytes | None:
    try:
        return await _whole(pack)
    except FileNotFoundError:
        return None
