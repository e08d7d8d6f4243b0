"""Starting a module of ours as a process of its own, at the other end of a socket."""

import socket
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import tasks


def start_module(
    module: str, environment: Mapping[str, str], *, errors: int | None = None, pass_fds: Collection[int] = ()
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process, whose standard input is a socket, and our end of it; `errors` is Popen's `stderr`.

    It is in a process group of its own: Ctrl-C is for the parent, which says what becomes of work under way.
    """
    ours, theirs = socket.socketpair()
    root = Path(next(iter(tasks.__path__))).resolve().parent
    with theirs:
        process = subprocess.Popen(
            # -P: a folder named `tasks` where the user happens to stand must not be imported
            [sys.executable, "-P", "-m", module],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**environment, "PYTHONPATH": str(root)},
            pass_fds=pass_fds,
            process_group=0,
        )
    return process, ours
