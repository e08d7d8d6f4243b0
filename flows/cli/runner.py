"""Prefect's runner for `visionflow serve`, which lets its runs finish their calls in flight when it is told to end.

Prefect's own kills them: on Ctrl-C at once, on SIGTERM or Cancel after 30 s, whatever an answer is allowed to take, and
a killed run leaves no table and says Running for ever. Runs end by themselves within their time limit. Names that begin
with an underscore are Prefect's (3.9): no setting and no public method waits longer, or says which processes there are.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any
from uuid import UUID

from prefect.runner import Runner

RUNNER_POLL_S = 0.2
# A run ends by itself within its own time limit; one that hangs is killed after this, or by a second Ctrl-C at once.
GRACE_S = 600.0
HURRY_S = 5.0  # for a run that is told to end at once


class PatientRunner(Runner):
    """A runner that tells its runs to end, and waits for them."""

    def under_way(self) -> set[UUID]:
        """Runs that have a process."""
        return {run for run in self._process_manager.flow_run_ids() if self._alive(run)}

    async def __aenter__(self) -> "PatientRunner":
        await super().__aenter__()
        kill: Callable[..., Any] = self._process_manager.kill

        async def patiently(flow_run_id: UUID, grace_seconds: float = GRACE_S, *, force: bool = False) -> None:
            """For Cancel in the UI: SIGTERM, then as long as the run takes."""
            del grace_seconds  # Prefect's 30 s
            if not force:
                self._terminate(flow_run_id)
                await self._gone({flow_run_id}, GRACE_S)
            if self._alive(flow_run_id):
                await kill(flow_run_id, force=True)

        self._process_manager.kill = patiently  # type: ignore[method-assign]
        return self

    async def cancel_all(self) -> None:
        """When the runner stops: every run ends in good order, all at the same time."""
        runs = self.under_way()
        for run in runs:
            self._terminate(run)
        await self._gone(runs, GRACE_S)

    async def end_at_once(self) -> None:
        """A terminal's second Ctrl-C has reached the runs too; else a second SIGTERM tells them, and then they go."""
        await self._gone(self.under_way(), HURRY_S / 2)
        for run in self.under_way():
            self._terminate(run)
        await self._gone(self.under_way(), HURRY_S / 2)
        for run in self.under_way():
            await self._process_manager.kill(run, force=True)

    def _terminate(self, run: UUID) -> None:
        handle = self._process_manager.get(run)
        if handle is not None and handle.is_alive():
            handle.graceful_kill()

    def _alive(self, run: UUID) -> bool:
        handle = self._process_manager.get(run)
        return handle is not None and handle.returncode is None and handle.is_alive()

    async def _gone(self, runs: set[UUID], seconds: float) -> None:
        deadline = monotonic() + seconds
        while any(map(self._alive, runs)) and monotonic() < deadline:
            await asyncio.sleep(RUNNER_POLL_S)


def serve_patiently(deployments: list[Any], say: Callable[[str, str], None]) -> int:
    """Serve until Ctrl-C, SIGTERM or the terminal's end; the exit status: 0, or 130 where runs were not waited for.

    The runner has a thread of its own, so that signals are ours: asyncio would cancel, and thereby kill, on the first.
    """
    os.environ.setdefault("VISIONFLOW_GRACE", str(round(GRACE_S)))  # runs need not hurry: this runner is patient
    runner = PatientRunner(pause_on_shutdown=False)
    failed: list[BaseException] = []

    async def serve() -> None:
        for deployment in deployments:
            await runner.aadd_deployment(deployment)
        await runner.start()

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            failed.append(error)

    thread = threading.Thread(target=work, name="visionflow-runner", daemon=True)
    received = _signals_from_now_on()
    thread.start()
    while thread.is_alive() and not received:
        thread.join(RUNNER_POLL_S)
    status = 0
    if thread.is_alive() and runner.started:
        if runs := len(runner.under_way()):
            what = "One run finishes its calls in flight and writes its tables"
            if runs > 1:
                what = f"{runs} runs finish their calls in flight and write their tables"
            say("Ending", f"{what}. Ctrl-C again ends at once.")
        runner.execute_in_background(runner.astop)
        status = _wait_unless_hurried(thread, received, runner)
    if failed:
        raise failed[0]
    return status


def _wait_unless_hurried(thread: threading.Thread, received: list[int], runner: PatientRunner) -> int:
    before = len(received)
    while thread.is_alive():
        thread.join(RUNNER_POLL_S)
        if len(received) > before:
            runner.execute_in_background(runner.end_at_once).result(2 * HURRY_S)
            thread.join(HURRY_S)
            return 130
    return 0


def _signals_from_now_on() -> list[int]:
    """A list that grows with every signal to end; one that is ignored, as SIGHUP under nohup, stays so."""
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: received.append(number))
    return received
