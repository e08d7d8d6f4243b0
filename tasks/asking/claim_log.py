"""Claims between machines: a log on S3 of who asks about which answers, and in what order they said so.

A block of the log names a run, its lease and the keys that it asks about. Blocks are numbered, and one is written only
if there is none of its number (a conditional write): so all agree which claim of a key was first, and that one holds
until its run is over or its block is gone. What comes up while one block is written goes into the next, so that a claim
costs two requests for a whole chunk of images: the block, and a look whether anybody wrote one meanwhile.

A block is removed when its keys are done with, but not before others who look now and then have read it; whoever finds
a number missing looks for kept answers anew. The last block always stays, so that no number is used twice.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from tasks.storage.conditional import ConditionsUnsupported, write_if
from tasks.storage.grouped import Grouped
from tasks.storage.lease import Watch
from tasks.storage.s3 import names_below, now, read_object, remove_objects, there

CLAIM_POLL_S3_S = 2.0
KEPT_S = 60.0  # a block at least, so that others read it
TIDY = 16  # blocks, before those that are done with are removed
CLOSING_S = 20.0


@dataclass(frozen=True)
class ClaimBlock:
    """A run's claims."""

    run_id: str
    lease: str
    keys: frozenset[str]


NOBODYS = ClaimBlock("", "", frozenset())  # one that cannot be read


class S3Claims:
    """The claims of a run that holds its lease. Lives on one event loop; its requests are made on another."""

    def __init__(self, place: str, run_id: str, lease: str, look_again: Callable[[], Awaitable[None]]) -> None:
        """`look_again` takes in answers that others have kept."""
        self._place, self._run_id, self._lease = place, run_id, lease
        self._look_again = look_again
        self._mine: dict[str, int] = {}
        self._ours: dict[int, tuple[float, set[str]]] = {}  # our blocks: when written, and keys not done with
        self._others: dict[int, ClaimBlock] = {}
        self._last = 0  # the highest number there was at the last look
        self._missed = True  # whether others may have answered what we know no claims of
        self._watches: dict[str, Watch] = {}
        self._claiming = Grouped(self._claim)
        self._news = Grouped[None](self._take_news)
        self._unsupported = False

    async def first(self, key: str) -> bool:
        """Claim the key; whether nobody who is at work did so before. What others have answered is found from now on.

        The storage's own error.
        """
        if self._unsupported:
            return True
        if key not in self._mine:
            try:
                await self._claiming.add(key)
            except ConditionsUnsupported:
                self._unsupported = True  # said when the run began
                return True
        rivals = self._rivals(key)
        if not rivals:
            return True
        at_work = [rival for rival in rivals if await there(self._at_work(rival))]
        await self._news.add(None)  # only now: one that is over may have answered just before
        return not at_work

    def done(self, key: str) -> None:
        """Nobody has to wait for us any longer."""
        if (number := self._mine.pop(key, None)) is not None:
            self._ours[number][1].discard(key)

    def close(self) -> None:
        """Remove our blocks, and those of runs that are over."""
        if self._last:
            with suppress(Exception):  # each storage has errors of its own; the next run does it
                now(self._remove_over, seconds=CLOSING_S)

    def _rivals(self, key: str) -> list[ClaimBlock]:
        """Who claimed the key before us."""
        ours = self._mine.get(key, 0)
        return [block for number, block in self._others.items() if number < ours and key in block.keys]

    async def _claim(self, keys: list[str]) -> None:
        await there(self._write(keys))
        if self._missed:
            await self._look_again()
            self._missed = False

    async def _take_news(self, _: list[None]) -> None:
        await there(self._read())
        await self._look_again()

    async def _write(self, keys: list[str]) -> None:
        """One block, after all others that there are."""
        if not self._last:
            await self._read()
        number, seen = self._last, self._last
        while wanted := [key for key in keys if key not in self._mine]:
            number = max(number, self._last) + 1
            body = {"run_id": self._run_id, "lease": self._lease, "number": number, "keys": wanted}
            written = await write_if(self._name(number), json.dumps(body).encode(), None)
            if written:
                self._ours[number] = monotonic(), set(wanted)
            await self._read()
            if written and self._last <= number:
                self._last = number
                self._mine |= dict.fromkeys(wanted, number)
            elif written:  # in the place of one that was removed
                await self._remove([number])
        known = self._others.keys() | self._ours.keys()
        self._missed |= any(one not in known for one in range(seen + 1, number))
        await self._tidy()

    async def _read(self) -> None:
        """Take in blocks that are new, and forget those that are gone."""
        listed = {int(name.rpartition("/")[2]): name for name in await names_below(self._place)}
        new = [number for number in listed if number not in self._others and number not in self._ours]
        blocks = await asyncio.gather(*(_block(listed[number]) for number in new))
        others = {number: block for number, block in self._others.items() if number in listed}
        self._missed |= len(others) < len(self._others) or None in blocks
        for number, block in zip(new, blocks, strict=True):
            if block is not None and block.run_id == self._run_id:  # of an earlier process of the same shard
                self._ours[number] = monotonic(), set(block.keys)
                self._mine |= {key: number for key in block.keys if key not in self._mine}
            elif block is not None:
                others[number] = block
        self._others = others
        self._last = max(self._last, *listed, 0)

    async def _tidy(self) -> None:
        old = monotonic() - KEPT_S
        done = [number for number, (since, keys) in self._ours.items() if not keys and since < old]
        await self._remove(done, at_least=TIDY)

    async def _remove_over(self) -> None:
        await self._read()
        over = [number for number, block in self._others.items() if not await self._at_work(block)]
        await self._remove([*self._ours, *over])

    async def _remove(self, numbers: list[int], at_least: int = 1) -> None:
        """All but the last of the log."""
        numbers = [number for number in numbers if number != self._last]
        if len(numbers) >= at_least:
            with suppress(OSError):  # it takes a right that nothing else needs
                await remove_objects([self._name(number) for number in numbers])
            for number in numbers:
                self._ours.pop(number, None)
                self._others.pop(number, None)

    async def _at_work(self, block: ClaimBlock) -> bool:
        """Whether the run that claimed so is."""
        holder = await self._watches.setdefault(block.lease, Watch(block.lease)).look_soon(CLAIM_POLL_S3_S)
        return holder is not None and holder.run_id == block.run_id

    def _name(self, number: int) -> str:
        return f"{self._place}/{number:012}"


async def _block(name: str) -> ClaimBlock | None:
    """What a block says; None for one that is gone."""
    try:
        data = (await read_object(name))[0]
    except FileNotFoundError:
        return None
    try:
        facts = json.loads(data)
        return ClaimBlock(str(facts["run_id"]), str(facts["lease"]), frozenset(facts["keys"]))
    except (ValueError, TypeError, KeyError):
        return NOBODYS
