"""Links are followed within SOURCE. One that leads out of it is passed over: whoever may put a link into a folder may
not choose what is sent from elsewhere on this machine. A link that the user names, or a manifest, is followed.
"""

import os
from pathlib import Path

LEADS_OUT = "links that lead out of it"  # what they are counted as


class Inside:
    """Whether a path leads to a place below the root, wherever the root itself leads."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._below = f"{self._root.rstrip('/')}/"
        self._folders: dict[str, bool] = {}

    def link(self, path: str) -> bool:
        """Of one link."""
        real = os.path.realpath(path)
        return real == self._root or real.startswith(self._below)

    def match(self, path: Path) -> bool:
        """Of a path found by a pattern, any part of which may be a link."""
        folder = str(path.parent)
        if folder not in self._folders:
            self._folders[folder] = self.link(folder)
        return self._folders[folder] and not (path.is_symlink() and not self.link(str(path)))


def leads_back(link: Path) -> bool:
    """Whether it leads to a folder that it lies in, which would be listed for ever."""
    return any(link.samefile(above) for above in link.parents)
