"""What a call may cost at most, and from what was received to an answer with its price, online or in a batch."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from config.prices import Price, prices_of
from tasks.asking.answer import Answer, utc_now
from tasks.asking.halting import Halt, Halting
from tasks.asking.pages import EngineSettings
from tasks.asking.question import Question
from tasks.asking.reply import Received
from tasks.billing.pricing import cost_usd, highest_cost
from tasks.billing.usage import Usage, image_tokens
from tasks.errors import PriceError
from tasks.types import PreparedImage

# Tokens the API adds around a request of ours (roles, schema instructions); generous, since this is a worst case.
OVERHEAD_TOKENS = 1000


class Sent(Protocol):
    """What was asked, without its image."""

    @property
    def uri(self) -> str:
        """Of the image."""

    @property
    def model(self) -> str:
        """Who was asked."""

    @property
    def max_tokens(self) -> int:
        """Room for the answer."""


@dataclass(frozen=True, slots=True)
class SentNow:
    """What has just been asked."""

    uri: str
    model: str
    max_tokens: int


class Pricer:
    """The prices of one run's calls; an answer without a price stops the run."""

    def __init__(self, settings: EngineSettings, halting: Halting, *, batch: bool = False) -> None:
        self._settings = settings
        self._halting = halting
        self._batch = batch
        models = {question.model for question in settings.questions}
        self._prices = {model: prices_of(settings.endpoint.prices, model) for model in models}

    def worst_case(self, question: Question, image: PreparedImage) -> Decimal:
        """The most that asking can cost, in US dollars."""
        return worst_case(question, image, self.prices(question.model), batch=self._batch)

    def prices(self, model: str) -> tuple[Price, ...]:
        """The rows of a model; none where the job said `unpriced: allow`."""
        if model not in self._prices:  # of a batch that another job of this name submitted
            self._prices[model] = prices_of(self._settings.endpoint.prices, model)
        return self._prices[model]

    def answer(
        self, received: Received, sent: Sent, *, request_id: str | None, latency_ms: int
    ) -> tuple[Answer, str | None]:
        """The answer as it is kept, and what of it is wrong, in words."""
        cost, paid, error = self._price(received, sent.model)
        answer = Answer(
            text=received.text,
            stop_reason=received.stop_reason,
            model=received.model,
            request_id=request_id,
            usage=received.usage or Usage(),
            cost_usd=cost,
            max_tokens=sent.max_tokens,
            latency_ms=latency_ms,
            answered_at=utc_now(),
            run_id=self._settings.run_id,
            image=sent.uri,
            paid=paid,
        )
        return answer, error

    def _price(self, received: Received, model: str) -> tuple[Decimal, str, str | None]:
        """Dollars, whether they were paid, and why that is not known; an answer without a price stops the run."""
        prices = self.prices(model)
        if not received.billed:
            return Decimal(0), "no", received.wrong
        if received.usage is None:
            return Decimal(0), "maybe", received.wrong
        if not prices:  # the job said `unpriced: allow`
            return Decimal(0), "yes", received.wrong
        try:
            return cost_usd(received.usage, prices, batch=self._batch), "yes", received.wrong
        except PriceError as error:
            self._halting.halt(Halt.stopped(error))
            return Decimal(0), "maybe", str(error)


def worst_case(question: Question, image: PreparedImage, prices: tuple[Price, ...], *, batch: bool = False) -> Decimal:
    """The most that one call can cost: every byte of text a token, and the whole of max_tokens used."""
    if not prices:
        return Decimal(0)
    prompt = image_tokens(image.width, image.height) + question.text_bytes + OVERHEAD_TOKENS
    return highest_cost(prompt, question.max_tokens, prices, batch=batch)
