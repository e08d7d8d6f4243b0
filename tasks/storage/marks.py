"""Files that stand for having done something once: of several writers, wherever they are, one is told it is new."""

from pathlib import Path

from tasks.storage.conditional import ConditionsUnsupported, now, write_if
from tasks.storage.output import Output, explained
from tasks.storage.s3 import is_s3


def write_mark(output: Output, relative: str, data: bytes) -> bool:
    """Write a file unless it is there; whether it was not. Raises OutputError.

    On an S3 store without conditional writes, two at the same moment may both be told so.
    """
    where = output.join(relative)
    with explained(where):
        try:
            return now(write_if, where, data, None) is not None if is_s3(where) else _write_new(Path(where), data)
        except ConditionsUnsupported:
            new = not output.exists(relative)
            output.write_bytes(relative, data)
            return new


def _write_new(path: Path, data: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True
