"""Text files that a person names: a prompt, a job, a schema."""

import os
import stat
from pathlib import Path

MOST_BYTES = 5_000_000  # far more than a model takes, far less than a mistake such as a disk image holds


def read_text(path: str | Path) -> str:
    """The file's text, which is UTF-8.

    OSError, whose `strerror` says why: it is not there, too large, or no file but a folder, a pipe or a device, which
    might never end. ValueError: other bytes than UTF-8, or a name that no file can have.
    """
    # O_NONBLOCK: opening a pipe waits for whoever writes into it otherwise.
    descriptor = os.open(Path(path).expanduser(), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:  # noqa: PTH123  # of an open descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no file but a folder, a pipe or a device")
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(0, f"it has more than {MOST_BYTES / 1e6:.0f} MB, too much for a text")
    return data.decode("utf-8")
