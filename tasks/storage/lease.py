"""A lease on S3: an object that its holder renews, and that anybody may take over once it was not renewed for a while.

Clocks of different machines are not compared: whoever waits watches the object's ETag, and one that stays the same for
a minute of the watcher's own time has a dead holder.
"""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep

from tasks.storage.conditional import ConditionsUnsupported, Found, read_found, write_always, write_if
from tasks.storage.locks import Holder
from tasks.storage.s3 import now

RENEW_S = 10.0
DEAD_S = 60.0  # without renewal
SOON_S = 20.0  # for one request
SETTLE_S = 3.0  # where the store has no conditional writes: until whoever wrote at the same moment has written


class Watch:
    """What a lease says, and for how long it has said the same."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.found: Found | None = None
        self._since = self._looked = monotonic()
        self._holder: Holder | None = None

    def look(self) -> Holder | None:
        """Who holds the lease as far as can be told now. For a thread, which waits."""
        return now(self.look_soon, 0.0, seconds=SOON_S)

    async def look_soon(self, seconds: float) -> Holder | None:
        """The same, or as it was so many seconds ago at most. Runs on the file system's own loop."""
        if self.found is not None and monotonic() - self._looked < seconds:
            return self._holder
        found = await read_found(self.uri)
        self._looked = monotonic()
        if found is None or self.found is None or found.etag != self.found.etag:
            self._since = monotonic()
        self.found = found
        self._holder = None if found is None or self.unchanged_s >= DEAD_S else holder_of(found)
        return self._holder

    def free_dead(self) -> bool:
        """Whether it is dead, as last looked at. It is freed then for those who have not watched it for as long.

        Raises what S3 does. Where there are no conditional writes, they have to watch it.
        """
        if self.found is None or self._holder is not None or holder_of(self.found) is None:
            return False
        with suppress(ConditionsUnsupported):
            now(write_if, self.uri, json.dumps({**json.loads(self.found.data), "free": True}).encode(), self.found)
        return True

    @property
    def unchanged_s(self) -> float:
        """Seconds since it was first seen as it is now."""
        return monotonic() - self._since


class Lease:
    """Held by one run at a time. `conditional` is false where the store has no conditional writes."""

    def __init__(self, uri: str, holder: Holder) -> None:
        self.conditional = True
        self.holder: Holder | None = None  # who has it, or had it before us
        self._ours = holder
        self._watch = Watch(uri)
        self._beat = 0
        self._held: Found | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def silent_s(self) -> float:
        """Seconds without a renewal, as far as we have seen."""
        return self._watch.unchanged_s

    def take(self, dead_run: str | None = None) -> bool:
        """Whether it is ours now; nobody waits. The lease of `dead_run`, which is known to be dead, counts as free.

        Raises what S3 does.
        """
        self.holder = self._watch.look()
        if self.holder is not None and self.holder.run_id != dead_run:
            return False
        self._held = self._written(self._watch.found)
        return self._held is not None

    def keep(self, lost: Callable[[str], object]) -> None:
        """Renew it until it is released; `lost` is told why if it cannot be."""
        self._thread = threading.Thread(target=self._renew, args=(lost,), name="visionflow-lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Say that it is free. Raises what S3 does."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(SOON_S)  # a renewal that hangs renews nothing
        if self._held is not None:
            held, self._held = self._held, None
            self._write(self._body(free=True), held)

    def _renew(self, lost: Callable[[str], object]) -> None:
        renewed = monotonic()
        failing = 0
        while not self._ended.wait(RENEW_S):
            assert self._held is not None
            try:
                held = self._write(self._body(), self._held)
            except Exception as error:  # noqa: BLE001  # S3 may be away for a moment
                failing += 1
                if failing > 1 and monotonic() - renewed > DEAD_S:
                    lost(f"S3 was away for {DEAD_S:.0f} s ({type(error).__name__}), so another run may have begun.")
                    return
                continue
            if held is None:
                self._held = None
                lost("Another run has taken over: this one gave no sign of life for a minute.")
                return
            self._held, renewed, failing = held, monotonic(), 0

    def _written(self, before: Found | None) -> Found | None:
        """The lease with our name on it, unless somebody else was faster."""
        try:
            written = now(write_if, self._watch.uri, self._body(), before, seconds=SOON_S)
            # A store that ignores conditions writes this too.
            ignored = (
                written is not None and now(write_if, self._watch.uri, self._body(), None, seconds=SOON_S) is not None
            )
        except ConditionsUnsupported:
            ignored = True
        if not ignored:
            return written
        self.conditional = False
        now(write_always, self._watch.uri, self._body(), seconds=SOON_S)
        sleep(SETTLE_S)
        return self._still_ours()

    def _write(self, body: bytes, before: Found) -> Found | None:
        """None if somebody else has it: then it says so, and not what we wrote in a request whose answer was late."""
        if not self.conditional:
            return now(write_always, self._watch.uri, body, seconds=SOON_S) if self._still_ours() else None
        written = now(write_if, self._watch.uri, body, before, seconds=SOON_S)
        if written is None and (ours := self._still_ours()):
            written = now(write_if, self._watch.uri, body, ours, seconds=SOON_S)
        return written

    def _still_ours(self) -> Found | None:
        found = now(read_found, self._watch.uri, seconds=SOON_S)
        return found if found is not None and holder_of(found) == self._ours else None

    def _body(self, *, free: bool = False) -> bytes:
        self._beat += 1
        return json.dumps({**self._ours.json, "beat": self._beat, "free": free}).encode()


def holder_of(found: Found) -> Holder | None:
    """Whose lease it is; None for one that was released, or that says nothing."""
    holder = Holder.read(found.data)
    return None if holder is None or json.loads(found.data).get("free") else holder
