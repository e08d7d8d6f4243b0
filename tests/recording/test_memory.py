"""Arrow without pandas: nothing is imported for nothing, and data frames can be made all the same."""

import subprocess
import sys

from tests.runs import ROOT

SCRIPT = """
import sys
from flows.cli.without_pandas import leave_pandas_out
leave_pandas_out()
import pyarrow as pa
array = pa.array(["a", None])
assert "pandas" not in sys.modules
frame = pa.table({"letter": array}).to_pandas()
assert "pandas" in sys.modules
back = pa.Table.from_pandas(frame)
assert back["letter"].to_pylist() == ["a", None], back
"""


def test_arrow_imports_pandas_only_for_a_data_frame() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, check=True)
