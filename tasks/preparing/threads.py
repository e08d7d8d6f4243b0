"""Preparation of a whole run: the threads that do it for all chunks, and how it goes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, TypeVar

from tasks.errors import StopRun
from tasks.preparing import prepare_image
from tasks.preparing.pool import cores
from tasks.storage.reading import ahead, read_whole
from tasks.text import counted
from tasks.types import ImageRules, PreparedImage, Source

# Files read and prepared at the same time: as many as keep the cores busy, or on S3 the network. Decoding itself is
# done by child processes, one a core; more threads would only take turns with the event loop of the calls.
THREADS, THREADS_S3 = 8, 32
AHEAD_BYTES = 64_000_000  # of the files that one chunk has under way, where the first alone is not more
CACHED_BYTES = 256_000_000  # of images as they are sent, for the next variants of a comparison
# Decoding a file takes two minutes at the most and a request to S3 is bounded, but a file system whose server is gone
# lets its readers wait for ever, and nothing wakes them.
HUNG_S = 600.0
HANGS = (
    f"Storage hangs: an image could not be read within {HUNG_S:.0f} s. Mount its file system anew, or end what holds "
    "it, then run the same command again."
)
LEAVING_S = 10.0  # at the end, for files that are being read or decoded
READING_POLL_S = 0.5

log = logging.getLogger("visionflow")
T = TypeVar("T")

PreparedFile = tuple[Source, list[PreparedImage]]  # a file as its storage described it when it was read, and its pages


class PreparedCache:
    """Files as they were prepared, for whoever prepares them by the same rules again; of so many bytes, the first ones.

    Nothing of it outlives the process.
    """

    def __init__(self, most_bytes: int = CACHED_BYTES) -> None:
        self._left = most_bytes
        self._files: dict[tuple[Source, ImageRules], PreparedFile] = {}
        self._lock = Lock()

    def prepare(self, source: Source, rules: ImageRules) -> PreparedFile:
        """As it is kept, else read and prepared now. Raises what that raises, which is not kept."""
        if (found := self._files.get((source, rules))) is None:
            found = _prepared(source, rules)
            with self._lock:
                self._left -= sum(page.sent_bytes for page in found[1])
                if self._left >= 0:
                    self._files[source, rules] = found
        return found


class PrepareThreads(Executor):
    """The threads that prepare files. However few chunks are under way, and however large, all have something to do.

    They do not keep the process: one that waits for a file system that hangs is left behind when the run ends.
    """

    def __init__(self, *, on_s3: bool, cache: PreparedCache | None = None) -> None:
        self._prepare = cache.prepare if cache else _prepared
        self.count = max(THREADS_S3 if on_s3 else THREADS, 2 * cores())
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._lock = Lock()
        self._ended = False

    def prepare(self, sources: Sequence[Source], rules: ImageRules) -> Iterator[tuple[Source, "Future[PreparedFile]"]]:
        """Every file, in order, and what it was when it was read; or ImageError, SourceUnavailable, or StopRun."""
        largest = max((source.size for source in sources), default=0)
        depth = max(1, min(self.count, AHEAD_BYTES // max(largest, 1)))
        return ahead(self, partial(self._prepare, rules=rules), sources, depth)

    def submit(self, work: Callable[..., T], /, *arguments: Any, **options: Any) -> "Future[T]":
        """What comes of it, once a thread is free. RuntimeError after the end."""
        future: Future[T] = Future()
        with self._lock:
            if self._ended:
                raise RuntimeError("the run has ended: nothing more is prepared")
            if len(self._threads) < self.count:
                name = f"visionflow-prepare-{len(self._threads)}"
                self._threads.append(Thread(target=self._take_turns, name=name, daemon=True))
                self._threads[-1].start()
            self._work.put((future, partial(work, *arguments, **options)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:  # noqa: ARG002  # as Executor has it
        """Begin nothing more; what is under way may end within some seconds, or is left behind with a warning."""
        with self._lock:
            self._ended = True
        try:
            while work := self._work.get_nowait():
                work[0].cancel()
        except Empty:
            pass
        for _ in self._threads:
            self._work.put(None)
        deadline = monotonic() + LEAVING_S
        for thread in self._threads:
            thread.join(max(deadline - monotonic(), 0))
        if hanging := sum(thread.is_alive() for thread in self._threads):
            log.warning("Storage hangs: %s still being read when the run ended.", counted(hanging, "file"))

    def _take_turns(self) -> None:
        while work := self._work.get():
            future, does = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = does()
            except BaseException as error:  # noqa: BLE001  # whoever waits for it gets it
                future.set_exception(error)
            else:
                future.set_result(result)
            del work, future, does  # an idle thread holds no image


def waited_for(reading: "Future[PreparedFile]", ended: Callable[[], bool]) -> PreparedFile | None:
    """What came of a file, or what that raised; None as soon as the run has ended. StopRun where its storage hangs."""
    deadline = monotonic() + HUNG_S
    while True:
        try:
            return reading.result(READING_POLL_S)
        except TimeoutError:
            if reading.done():
                return reading.result()
        if ended():
            return None
        if monotonic() > deadline:
            raise StopRun(HANGS)


def _prepared(source: Source, rules: ImageRules) -> PreparedFile:
    read, data = read_whole(source, most_bytes=rules.max_source_bytes)
    return read, prepare_image(data, rules)


@dataclass
class PrepareCounts:
    """Files prepared so far and their pages, files that could not be, and how many bytes became how many."""

    done: int = 0
    pages: int = 0
    """A file that could not be prepared counts as one."""
    failed: int = 0
    read_bytes: int = 0
    sent_bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, source_bytes: int, pages: list[PreparedImage]) -> None:
        """Count one file; without pages it could not be prepared."""
        with self._lock:
            self.done += 1
            self.pages += len(pages) or 1
            self.failed += not pages
            self.read_bytes += source_bytes
            self.sent_bytes += sum(page.sent_bytes for page in pages)

    @property
    def sent_share(self) -> float:
        """Bytes sent for each byte read; 1 at most, and as long as nothing was read."""
        return min(1.0, self.sent_bytes / self.read_bytes) if self.read_bytes else 1.0
