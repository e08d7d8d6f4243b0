"""How preparation goes: counted by many threads, watched by others."""

from dataclasses import dataclass, field
from threading import Lock

from tasks.records import PreparedImage


@dataclass
class Preparation:
    """Files prepared so far, those that could not be, and how many bytes became how many."""

    done: int = 0
    failed: int = 0
    read_bytes: int = 0
    sent_bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, source_bytes: int, pages: list[PreparedImage]) -> None:
        """Count one file; without pages it could not be prepared."""
        with self._lock:
            self.done += 1
            self.failed += not pages
            self.read_bytes += source_bytes
            self.sent_bytes += sum(page.sent_bytes for page in pages)

    @property
    def sent_share(self) -> float:
        """Bytes sent for each byte read; 1 at most, and as long as nothing was read."""
        return min(1.0, self.sent_bytes / self.read_bytes) if self.read_bytes else 1.0
