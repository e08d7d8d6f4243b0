"""The command line: `visionflow`, or `python -m flows` from a bare clone.

Nothing heavy is imported before a command needs it, so that --help and mistakes answer at once.
"""

import argparse
import os
import signal
import sys
from types import FrameType

from flows import check_names


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 to 5 or 130 (README: exit status)."""
    try:
        check_names()
    except ImportError as error:
        print(f"visionflow: {error}", file=sys.stderr)  # noqa: T201
        return 1
    from config.settings import spare_loopback_the_proxy
    from flows.cli.arguments import parser

    arguments = parser().parse_args(argv)
    spare_loopback_the_proxy()
    before = signal.signal(signal.SIGTERM, _like_ctrl_c)
    try:
        status = _status_of(arguments)
        if "prefect" in sys.modules:
            from flows.cli.server import leave

            leave(status)
    finally:
        signal.signal(signal.SIGTERM, before)
    return status


def _status_of(arguments: argparse.Namespace) -> int:
    from tasks.errors import StopRun, UsageError
    from tasks.text import printable

    try:
        from flows.cli import commands

        status = int(getattr(commands, arguments.command)(arguments))
        sys.stdout.flush()
        return status
    except UsageError as error:
        print(f"visionflow: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        return 2
    except StopRun as error:
        print(f"visionflow: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("visionflow: Interrupted.", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        return _read_no_further()


def _read_no_further() -> int:
    """Whoever read the output has seen enough, as `head` does: what is still to be flushed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def _like_ctrl_c(_number: int, _frame: FrameType | None) -> None:
    """End in good order: exit handlers let go of Prefect's server."""
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
