"""Reading a table's parts where one may be damaged: it is set aside with one warning, and no start waits for it."""

import logging
from collections.abc import Iterator, Sequence

import pyarrow as pa

from tasks.errors import DamagedTable, OutputError
from tasks.storage.output import Output

log = logging.getLogger("visionflow")


def sound_parts(output: Output, folder: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The parts below a folder that can be read, one after another. Raises OutputError if the storage fails."""
    for name in output.parts(folder):
        try:
            yield from output.read_parts(name, columns)
        except DamagedTable as damage:
            set_part_aside(output, name, damage)


def set_part_aside(output: Output, name: str, damage: DamagedTable) -> None:
    """Move a damaged part out of the table, with a warning; it stays where the output takes no more."""
    try:
        moved = f"It was moved to {output.set_aside(name)}."
    except OutputError as error:
        moved = f"It could not be moved away: {error}"
    log.warning("%s %s", str(damage).partition(" `visionflow check")[0], moved)
