"""Preparation of a whole run: the threads that do it for all batches, and how it goes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

from tasks.preparing import prepare_image
from tasks.preparing.pool import cores
from tasks.storage.reading import ahead, read_whole
from tasks.types import ImageRules, PreparedImage, Source

# Files read and prepared at the same time: as many as keep the cores busy, or on S3 the network. Decoding itself is
# done by child processes, one a core; more threads would only take turns with the event loop of the calls.
THREADS, THREADS_S3 = 8, 32
AHEAD_BYTES = 64_000_000  # of the files that one batch has under way, where the first alone is not more


PreparedFile = tuple[Source, list[PreparedImage]]  # a file as its storage described it when it was read, and its pages


class Preparers(ThreadPoolExecutor):
    """The threads. However few batches are under way, and however large, all threads have something to do."""

    def __init__(self, *, on_s3: bool) -> None:
        self.count = max(THREADS_S3 if on_s3 else THREADS, 2 * cores())
        super().__init__(self.count, thread_name_prefix="visionflow-prepare")

    def prepare(self, sources: Sequence[Source], rules: ImageRules) -> Iterator[tuple[Source, "Future[PreparedFile]"]]:
        """Every file, in order, and what it was when it was read; or ImageError, SourceUnavailable, or StopRun."""
        largest = max((source.size for source in sources), default=0)
        depth = max(1, min(self.count, AHEAD_BYTES // max(largest, 1)))
        return ahead(self, partial(_pages, rules=rules), sources, depth)


def _pages(source: Source, rules: ImageRules) -> PreparedFile:
    read, data = read_whole(source, most_bytes=rules.max_source_bytes)
    return read, prepare_image(data, rules)


@dataclass
class Preparation:
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
