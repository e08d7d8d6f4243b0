"""libvips as the child uses it: nothing is kept between files, and the loaders that count as untrusted are blocked."""

from functools import cache
from typing import Any


@cache
def libvips() -> Any:
    """The module `pyvips`, set up; imported only where a file needs it."""
    import pyvips

    pyvips.cache_set_max(0)  # no file comes twice, and a cached one would stay in memory
    pyvips.block_untrusted_set(True)
    # librsvg counts as untrusted too. It draws from memory, in a process with limits and without a network address.
    pyvips.operation_block_set("VipsForeignLoadSvg", False)
    return pyvips
