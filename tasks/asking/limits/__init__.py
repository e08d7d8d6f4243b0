"""What holds calls back, in the order in which a call passes it: the cap, a slot, and its moment.

budget   the cap in dollars: the worst case of a call is set aside before it leaves, the real cost takes its place.
limiter  slots (the job's concurrency), repeated calls first; and the moment, the latest of three:
         the job's own rate; what `buckets` and `aimd` say; and the end of a pause while the endpoint is shut.
buckets  one for each limit that headers tell of. Measured: `anthropic-ratelimit-*` of each answer, 429s too. Moves with
         every answer: down at once, up by a tenth of the difference (`BELIEVED`), for an old answer does not know of
         calls that left since. A fiftieth stays unused (`SPARE`), and a thousand tokens, to which the API rounds
         (`ROUNDING`).
aimd     what 429 and 529 teach where no header tells. Measured over windows of a second or a latency (`WINDOW_S`) and
         50 answers (`ENOUGH`; a share of 30 % is then known to 7 points): calls sent, answered, turned away.
         Moves at a window's end only, and only when somebody had to wait, so that there was more to ask:
         - more than a tenth turned away (`TOLERABLE`): multiplicative decrease, to just below what was answered
           (`SLOWER`), which is what an endpoint with a limit bears.
         - the next window judges that. If 88 % of the good answers remained (`HELD`),
           slowing down helped, and goes on; else the endpoint turns calls away whatever we do, the old rate comes
           back, and the next 64 windows try nothing (`PATIENCE`), for each try costs a window's answers.
         - else additive increase, by a twenty-fifth of the rate before the first brake (`FASTER`), doubled with each
           good window in a row, until that rate is reached and nothing holds calls back any more.

`retry-after` is the image's own: it waits without a slot while others go on. Only when 20 calls in a row were turned
away (`SHUT`), and no more than a quarter of those in flight at the first may still be good (`ACCEPTED`), does everybody
wait: for `retry-after`, else for 1, 2, 4, ... 60 seconds; then one call goes ahead to see. Nothing moves for a single
429, since a random refusal tells nothing of a rate. `python -m tests.benchmark.storm` measures what all this gives.
"""

from dataclasses import dataclass
from decimal import Decimal

from tasks.asking.limits.budget import Budget
from tasks.asking.limits.limiter import Limiter


@dataclass(frozen=True, slots=True)
class Grant:
    """What a process may use of limits that it shares with others."""

    concurrency: int
    per_second: float | None
    max_cost: Decimal | None
    last: bool = True
    """Whether there will be no more to spend."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All that one engine's calls wait for."""

    limiter: Limiter
    budget: Budget

    def regrant(self, grant: Grant) -> None:
        """From now on these are the limits; what is in flight or set aside beyond them stays until it has ended."""
        self.limiter.resize(grant.concurrency, grant.per_second)
        self.budget.recap(grant.max_cost, last=grant.last)

    def wake_all(self) -> None:
        """Let everybody who waits go on, for the run is ending."""
        self.limiter.wake_all()
        self.budget.wake_all()
