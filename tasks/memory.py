"""Giving memory back to the system when a phase has ended: allocators keep what was freed for the next need."""

import ctypes
import gc


def give_back() -> None:
    """Collect garbage, and let the C library return the pages that are free (glibc; elsewhere nothing is done)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
