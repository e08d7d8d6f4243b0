"""A flow run that is paused: the question to a person in Prefect's UI, who waits for it, and the answers.

For some minutes the process waits, and goes on within a second of the answer. Then the flow run is suspended: its
process ends, and the answer starts it again from the top. Prefect's own `pause_flow_run` makes a failure of a pause
whose time is up, and hears neither Cancel nor SIGTERM.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, Pause
from prefect.input import RunInput
from prefect.input.run_input import keyset_from_paused_state
from prefect.states import Paused, Running, Suspended
from pydantic import Field, ValidationError

if TYPE_CHECKING:
    from tasks.orchestration.invoker import Stop

T = TypeVar("T")

ANSWER_POLL_S = 1.0
# Prefect makes a failure of a pause whose time is up; by then ours is suspended, or its process is gone.
PATIENCE_S = 900
AWAY_S = 600.0  # so long a server may be away when it has to be told something
MANY = 200


class NewCap(RunInput):
    """What a person answers."""

    max_cost: float = Field(
        ge=0,
        le=1_000_000_000,
        allow_inf_nan=False,
        title="New cap in US dollars",
        description="For the whole run, what is spent already included. No more than that ends the run as it is.",
    )


@dataclass
class Inquiry:
    """The form in Prefect's UI, and who waits for what is entered there."""

    client: SyncPrefectClient
    flow_run: UUID
    run_id: str
    form: type[RunInput]
    message: str
    stop: "Stop"
    minutes: float
    """For so many the process waits."""
    asked: int = 0

    def answer(self) -> Decimal | None:
        """What a person says; None where the flow run was ended instead, or nobody can be asked.

        An answer that is none, or a state set by hand, is asked about again.
        """
        before = len(answers_of(self.client, self.flow_run))
        log = get_run_logger()
        while True:
            current = self._patiently(lambda: self.client.read_flow_run(self.flow_run))
            # A pause gives back the slot of a deployment's concurrency limit, and Prefect ends whoever goes on without.
            holds_slot = bool(current and current.state and current.state.state_details.deployment_concurrency_lease_id)
            if holds_slot or self.minutes == 0:
                self._suspend()
                return None
            log.warning("Paused by the cap: waiting for a new one for %g minutes, then suspended.", self.minutes)
            seconds = round(self.minutes * 60) + PATIENCE_S
            if self._ask(Paused(timeout_seconds=seconds, message=self.message, pause_key=self._key())) is None:
                return None
            if not self._resumed(monotonic() + self.minutes * 60):
                return None
            answers = self._patiently(lambda: answers_of(self.client, self.flow_run)) or []
            if len(answers) > before:
                return answers[-1]
            log.warning("That was no amount of dollars: asking again.")

    def _key(self) -> str:
        self.asked += 1
        return f"{self.run_id.lower()}-{self.asked}"  # Prefect takes no other letters

    def _ask(self, state: State[Any]) -> State[Any] | None:
        """Show the form; the state that the flow run is in now, or None where it must not be paused."""
        keyset = keyset_from_paused_state(state)
        state.state_details.run_input_keyset = {str(name): key for name, key in keyset.items()}
        result = self._patiently(lambda: self.client.set_flow_run_state(self.flow_run, state))
        if result is None or result.status != SetStateStatus.ACCEPT:
            return None
        self._patiently(lambda: self.form.save(keyset, flow_run_id=self.flow_run))
        return result.state

    def _resumed(self, deadline: float) -> bool:
        """Whether the flow run is running again. Suspends it when the time is up, or its process is to end."""
        while True:
            flow_run = self._glance()
            state = flow_run.state if flow_run else None
            if state is not None and state.is_running():
                return True
            if state is not None and not state.is_paused():
                if state.is_cancelling() or state.is_cancelled():
                    self.stop("Cancelled in Prefect.")
                return False  # else ended by hand
            if monotonic() >= deadline or self.stop.requested:
                return self._suspended_unless_answered()
            sleep(ANSWER_POLL_S)

    def _suspended_unless_answered(self) -> bool:
        """Prefect suspends only what is running. Who answers at this very moment is heard all the same."""
        before = len(self._patiently(lambda: answers_of(self.client, self.flow_run)) or [])
        self._patiently(lambda: self.client.set_flow_run_state(self.flow_run, Running()))
        if len(self._patiently(lambda: answers_of(self.client, self.flow_run)) or []) > before:
            return True
        self._suspend()
        return False

    def _suspend(self) -> None:
        """End this process with the question open; raises Pause. Returns where the flow run may not be suspended."""
        if state := self._ask(Suspended(message=self.message, pause_key=self._key())):
            raise Pause(state=state)

    def _glance(self) -> FlowRun | None:
        """The flow run; None while the server is away."""
        try:
            return self.client.read_flow_run(self.flow_run)
        except httpx.HTTPError:
            return None

    def _patiently(self, call: Callable[[], T]) -> T | None:
        """What the server says; None if it is away for long, or has forgotten the flow run."""
        deadline = monotonic() + AWAY_S
        while True:
            try:
                return call()
            except ObjectNotFound:
                return None
            except httpx.HTTPError:
                if monotonic() >= deadline or self.stop.requested:
                    return None
            sleep(ANSWER_POLL_S)


def with_a_person() -> FlowRun | None:
    """The flow run, where somebody may look at it: a deployment's, and no other flow's part."""
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    if flow_run is None or flow_run.deployment_id is None or flow_run.parent_task_run_id is not None:
        return None
    return flow_run


def suspend(message: str, run_id: str) -> None:
    """End this process until somebody presses Resume, which starts the flow run again from the top: raises Pause.

    Returns where nobody may look at it, and for a run of a schedule, whose next one goes on.
    """
    flow_run = with_a_person()
    if flow_run is None or flow_run.auto_scheduled:
        return
    with get_client(sync_client=True) as client:
        state: State[Any] = Suspended(message=message, pause_key=run_id.lower())
        result = client.set_flow_run_state(flow_run.id, state)
    if result.status == SetStateStatus.ACCEPT:
        raise Pause(state=result.state)


def answers_of(client: SyncPrefectClient, flow_run: UUID) -> list[Decimal]:
    """All caps that persons have said for this flow run, oldest first; what is no amount is left out."""
    said = []
    for one in client.filter_flow_run_input(flow_run, "", MANY, set()):
        if one.key.endswith("-response"):
            with suppress(ValidationError, TypeError):
                said.append(Decimal(str(NewCap(**one.decoded_value).max_cost)))
    return said
