"""CPU of a process by thread and by step within a thread, and how late its event loop wakes. Nothing of visionflow."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

TICK_S = 0.010


class Steps(defaultdict[str, float]):
    """Seconds by step."""

    def __init__(self) -> None:
        super().__init__(float)

    def add(self, others: Mapping[str, float]) -> None:
        """Theirs to ours."""
        for name, seconds in others.items():
            self[name] += seconds


@dataclass
class ThreadClock:
    """What one thread has used, in seconds: in all, and in steps that it was inside of."""

    thread: threading.Thread
    steps: Steps = field(default_factory=Steps)
    before: float = 0.0  # used before `Clocks.start`
    last: float | None = None  # used when it ended
    inner: list[float] = field(default_factory=list)  # for each open step, what steps within it took

    @property
    def cpu_s(self) -> float:
        """CPU so far; only for a thread that cannot end meanwhile."""
        if self.last is not None:
            return self.last
        assert self.thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self.thread.ident))

    @property
    def since_start(self) -> float:
        """CPU since `Clocks.start`, without what steps took."""
        return self.cpu_s - self.before - sum(self.steps.values())


class Clocks:
    """Every thread that Python starts from now on, and the one that makes this object."""

    def __init__(self) -> None:
        self._threads: list[ThreadClock] = []
        self._lock = threading.Lock()  # a thread waits for it before it ends: its clock must not be read after
        self._own = threading.local()
        self._enter(threading.current_thread())
        original = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]
        clocks = self

        def bootstrap(thread: threading.Thread) -> None:
            clock = clocks._enter(thread)
            try:
                original(thread)
            finally:
                with clocks._lock:
                    clock.last = time.thread_time()

        threading.Thread._bootstrap_inner = bootstrap  # type: ignore[attr-defined]

    def start(self) -> Steps:
        """Count threads from here on; the steps that were counted before."""
        with self._lock:
            before = Steps()
            for clock in self._threads:
                before.add(clock.steps)
                clock.before, clock.steps = clock.cpu_s, Steps()
        return before

    def threads(self) -> list[tuple[str, float]]:
        """Name of each thread, and its CPU since the start outside all steps."""
        with self._lock:
            return [(clock.thread.name, clock.since_start) for clock in self._threads]

    def steps(self) -> Steps:
        """CPU of each step since the start, in whatever threads."""
        total = Steps()
        with self._lock:
            for clock in self._threads:
                total.add(clock.steps)
        return total

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """What this thread does inside belongs to the step, but for steps within it."""
        clock: ThreadClock = self._own.clock
        clock.inner.append(0.0)
        begin = time.thread_time()
        try:
            yield
        finally:
            taken = time.thread_time() - begin
            clock.steps[name] += taken - clock.inner.pop()
            if clock.inner:
                clock.inner[-1] += taken

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its CPU counted as the step's; of a coroutine each stretch between two waits."""
        if asyncio.iscoroutinefunction(function):

            @wraps(function)
            async def coroutine(*args: Any, **options: Any) -> Any:
                return await _Stretches(self, name, function(*args, **options))

            return coroutine

        @wraps(function)
        def plain(*args: Any, **options: Any) -> Any:
            with self.step(name):
                return function(*args, **options)

        return plain

    def _enter(self, thread: threading.Thread) -> ThreadClock:
        clock = self._own.clock = ThreadClock(thread)
        with self._lock:
            self._threads.append(clock)
        return clock


@dataclass(frozen=True)
class _Stretches:
    """Awaits a coroutine with a clock around each of its stretches."""

    clocks: Clocks
    name: str
    coroutine: Awaitable[Any]

    def __await__(self) -> Generator[Any, Any, Any]:
        inside = self.coroutine.__await__()
        go: Callable[[], Any] = lambda: next(inside)  # noqa: E731
        while True:
            try:
                with self.clocks.step(self.name):
                    waited_for = go()
            except StopIteration as end:
                return end.value
            try:
                value = yield waited_for
            except BaseException as error:  # noqa: BLE001  # cancelled: for the coroutine to deal with
                go = lambda error=error: inside.throw(error)  # type: ignore[misc]  # noqa: E731
            else:
                go = lambda value=value: inside.send(value)  # type: ignore[misc]  # noqa: E731


class Lag:
    """How late an event loop wakes from sleeps of 10 ms."""

    def __init__(self) -> None:
        self.late_s: list[float] = []

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sleep and wake as long as the loop runs."""
        due = loop.time() + TICK_S

        def wake() -> None:
            nonlocal due
            now = loop.time()
            self.late_s.append(now - due)
            due = now + TICK_S
            loop.call_at(due, wake)

        loop.call_at(due, wake)

    def summary(self) -> dict[str, float]:
        """In milliseconds."""
        if not self.late_s:
            return {}
        late_ms = sorted(late * 1000 for late in self.late_s)
        count = len(late_ms)
        return {"p50": late_ms[count // 2], "p99": late_ms[count * 99 // 100], "max": late_ms[-1], "ticks": count}
