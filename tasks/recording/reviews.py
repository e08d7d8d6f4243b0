"""How many rows were read twice, and how many a person should look at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.storage.output import Output

COLUMNS = ["agreement", "needs_review"]


@dataclass
class Reviews:
    """Adds up as rows come."""

    read_twice: int = 0
    needs_review: int = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count rows of `results`."""
        for row in rows:
            self.read_twice += row.get("agreement") is not None
            self.needs_review += bool(row.get("needs_review"))

    def add_part(self, part: pa.Table) -> None:
        """Count a part of the table; one of the first release, or without a schema, has no such columns."""
        if set(COLUMNS) <= set(part.column_names):
            self.read_twice += part.num_rows - part["agreement"].null_count
            self.needs_review += pc.sum(part["needs_review"]).as_py() or 0


def counted_reviews(output: Output, folder: str) -> Reviews:
    """Counted from the parts of a run's `results`. Raises OutputError."""
    reviews = Reviews()
    for part in output.read_batches(folder, 10_000):
        reviews.add_part(part)
    return reviews
