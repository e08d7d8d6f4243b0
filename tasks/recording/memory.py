"""Memory that a run does not need: pages that are free again, and a library that it makes no use of."""

import ctypes
import gc
import sys


def give_back() -> None:
    """Collect garbage, and let the C library return the pages that are free (glibc; elsewhere nothing is done)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


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
    import pyarrow

    sys.meta_path.insert(0, _NoPandas)
    try:
        pyarrow.array([])
    finally:
        sys.meta_path.remove(_NoPandas)
