"""One active run per job and output: the second waits for the first, and says for whom.

With a local output the turn is a lock on a file in it; the kernel frees it when the run ends, however it ends. On S3,
and for a shard of a fleet, which any machine may take over, it is a lease, dead a minute after its last renewal; the
lock of the same name under VISIONFLOW_HOME tells at once that the run before it on this machine has died.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from config.settings import home
from tasks.errors import BusyError
from tasks.planning.plan import Plan
from tasks.storage.files import make_private_folder
from tasks.storage.lease import RENEW_S, Lease
from tasks.storage.locks import FileLock, Holder, LocksUnsupported
from tasks.storage.output import Output, explained
from tasks.storage.s3 import is_s3

Say = Callable[[str], object]

FOLDER = ".visionflow/active"
LONGER_S = 10.0  # than the time limit of one call: so long a run waits for another
LOCK_POLL_S, LEASE_POLL_S = 0.2, 2.0  # between two looks at a lock; on S3 each is a request


class Turn:
    """A run's turn at its job and output. Kept until it is released."""

    def __init__(self, output: Output, job: str, run_id: str, say: Say, *, leased: bool = False) -> None:
        self._output, self._job, self._say = output, job, say
        self._leased = leased or is_s3(output.uri)
        self._us = Holder(run_id)
        self._lock: FileLock | None = None
        self._lease: Lease | None = None

    def wait(self, seconds: float) -> None:
        """Until it is ours. BusyError if another run is still at work when the time is up; OutputError."""
        began = monotonic()
        with explained(self._output.uri):
            if self._leased:
                self._wait_for_lock(home_lock(self._output.uri, self._job), began + seconds)
                self._wait_for_lease(began + seconds)
            else:
                self._wait_for_lock(Path(self._output.join(f"{FOLDER}/{self._job}.lock")), began + seconds)

    def keep(self, lost: Callable[[str], object]) -> None:
        """Go on holding it; `lost` is told if another run may have begun all the same."""
        if self._lease is not None:
            self._lease.keep(lost)

    def release(self) -> None:
        """Let the next run have its turn."""
        if self._lease is not None:
            with suppress(Exception):  # it is dead in a minute all the same
                self._lease.release()
        if self._lock is not None:
            self._lock.release()

    def _wait_for_lock(self, path: Path, deadline: float) -> None:
        lock = FileLock(path)
        try:
            self._wait(lambda: lock.take(self._us), lambda: lock.holder, deadline, LOCK_POLL_S)
        except LocksUnsupported:
            if not self._leased and path.is_relative_to(self._output.uri):
                self._say(
                    f"{path.parent} is on a file system without locks: a run on another machine that writes to "
                    "this output would not be noticed."
                )
                self._wait_for_lock(home_lock(self._output.uri, self._job), deadline)
            return
        self._lock = lock

    def _wait_for_lease(self, deadline: float) -> None:
        lease = Lease(lease_uri(self._output, self._job), self._us)
        dead = self._lock.holder.run_id if self._lock and self._lock.holder else None

        def late() -> bool:
            return lease.silent_s < 2 * RENEW_S  # else it may be dead, which will soon be known

        self._wait(lambda: lease.take(dead), lambda: lease.holder, deadline, LEASE_POLL_S, late)
        self._lease = lease
        if not lease.conditional:
            self._say("This storage has no conditional writes: two runs that begin at the same moment may both go on.")

    def _wait(
        self,
        take: Callable[[], bool],
        holder: Callable[[], Holder | None],
        deadline: float,
        look_s: float,
        late: Callable[[], bool] = lambda: True,
    ) -> None:
        told: str | None = None
        while not take():
            who = str(holder() or "another run")
            if told != who:
                self._say(f"Waiting for {who}, which is at work on the job {self._job} in {self._output.uri}.")
                told = who
            if monotonic() >= deadline and late():
                raise BusyError(
                    f"{who[0].upper()}{who[1:]} is still at work on the job {self._job} in {self._output.uri}. "
                    "Run the same command again when it has ended, or name another --output or --name."
                )
            sleep(look_s)


@contextmanager
def turn(plan: Plan, say: Say) -> Iterator[Turn]:
    """The run's turn, waited for no longer than one call may take and a little; others wait until it is over."""
    ours = Turn(plan.output, plan.turn, plan.holder, say, leased=plan.is_shard)
    try:
        ours.wait(plan.job.timeout + LONGER_S)
        yield ours
    finally:
        ours.release()


def lease_uri(output: Output, job: str) -> str:
    """Where the lease of a job's active run, or of a shard, lies in the output."""
    return output.join(f"{FOLDER}/{job}.json")


def home_lock(output: str, job: str) -> Path:
    """This machine's lock for a job and an output that lies elsewhere."""
    folder = home() / "active"
    make_private_folder(folder)
    return folder / f"{job}-{hashlib.sha256(output.encode()).hexdigest()[:12]}.lock"
