"""What can go wrong, named by what the caller does next.

VisionflowError
├── UsageError        the command or job file cannot be understood: exit status 2
├── StopRun           nothing more can be asked: exit status 1; answers received so far are kept
│   ├── SourceError   the images cannot be listed
│   ├── OutputError   the results cannot be written
│   │   └── DamagedTable  a table's file cannot be read any more
│   ├── BusyError     another run of the same job is at work in the same output
│   ├── SchemaError   the answers' schema cannot be used
│   ├── EndpointError wrong key, unknown model, unreachable or foreign endpoint, spend limit
│   └── PriceError    no price is known, so no bill could be exact
│   └── TruthError    labels cannot be used: the file, the row and the field that are wrong
├── RowsFailed        all is written, but more rows failed than the job allows: exit status 3
├── ImageError        one image cannot be sent; it becomes a row with this reason
└── AnswerError       one answer cannot be used; its call is closed, and its row says what was wrong
Signal                tells the next function up what happened, and never leaves the rooms named here
├── CallFailed, Claimed, Halted, CutOff, BudgetSpent   asking: no more calls for this page, or for this run
├── InBatch, NotSubmitted, Gone                        asking: what became of a Message Batch, or of its results
├── ChildLostError, OutOfTimeError                     preparing: a decoder ended, or did not end in time
├── TooMuch                                            schemas: checking an answer would take too long
├── SourceUnavailable                                  storage: a moment's trouble; the task is tried again
└── Unanswered                                         orchestration: some images have no answer yet; likewise
ConfigError           in config/, which knows no task: a TOML file cannot be used

Every message is one line for a person: what happened, to what, and what to do.
"""

from typing import Any


class VisionflowError(Exception):
    """Root of every error raised on purpose."""

    summary: dict[str, Any] | None = None
    """Of the run that it ended, where that came so far that it has one."""


class Signal(Exception):
    """Tells the next function up what happened; no person ever reads it."""


class UsageError(VisionflowError):
    """The command line or job file asks for something that does not exist."""


class StopRun(VisionflowError):
    """The run cannot go on; what was answered before is kept."""


class SourceError(StopRun):
    """The source cannot be listed or read as a whole."""


class OutputError(StopRun):
    """The output cannot be written."""


class DamagedTable(OutputError):
    """A Parquet file whose bytes are not what was written."""


class BusyError(StopRun):
    """Another run of this job is at work in this output, and did not end while this one waited."""


class SchemaError(StopRun):
    """The answer schema is invalid or cannot be expressed within the API's limits."""


class EndpointError(StopRun):
    """The endpoint refuses every call: key, model, address, spend limit."""


class PriceError(StopRun):
    """A model or a class of tokens has no price."""


class RowsFailed(VisionflowError):
    """More rows failed than `max_failed` allows. The run is whole: `summary` is its own, as of `run --json`."""

    def __init__(self, message: str, summary: dict[str, Any]) -> None:
        super().__init__(message)
        self.summary: dict[str, Any] = summary

    def __reduce__(self) -> tuple[type["RowsFailed"], tuple[str, dict[str, Any]]]:
        return type(self), (str(self), self.summary)


class TruthError(StopRun):
    """Labels that answers are to be compared with cannot be read, or fit neither the images nor the schema."""


class ImageError(VisionflowError):
    """One image cannot be prepared; the run goes on.

    `code` is a short, stable word for analytics (`empty`, `truncated`, `too_many_pixels`, ...);
    the message tells a person what is wrong with the file.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.code, str(self))


class AnswerError(VisionflowError):
    """An endpoint answered with something that cannot be used; whether it was paid nobody knows.

    `code` is a short, stable word: `truncated_body`, `foreign_answer`, `malformed_answer`, `too_large`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
