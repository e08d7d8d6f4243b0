"""Arrow without pandas, which a command does not need."""

import sys

import pyarrow as pa


class _NoPandas:
    """A finder that knows pandas to be missing.

    Arrow has no setting for that, and None in `sys.modules`, Python's own way, is not enough: Arrow's compiled import
    takes the None for the module (pyarrow/pandas-shim.pxi).
    """

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def leave_pandas_out() -> None:
    """Let Arrow find no pandas for now: else its first array of a list imports it, which takes 0.3 s and 38 MB.

    For a program that makes no data frames. Should one be made all the same, Arrow imports pandas then.
    """
    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(_NoPandas)
