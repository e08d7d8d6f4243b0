"""Settings of this machine: environment variables named VISIONFLOW_*."""

import os
import sys
from pathlib import Path


def home() -> Path:
    """Where answers are kept when the output is local: VISIONFLOW_HOME, or the user's data folder."""
    if chosen := os.environ.get("VISIONFLOW_HOME"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "visionflow"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "visionflow"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "visionflow"


def keep_server() -> bool:
    """Whether a Prefect server that a run had to start stays up for the next one (VISIONFLOW_KEEP_SERVER=1)."""
    return os.environ.get("VISIONFLOW_KEEP_SERVER", "") not in ("", "0")
