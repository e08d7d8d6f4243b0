"""Settings of this machine: environment variables named VISIONFLOW_*."""

import os
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
PAUSE_MINUTES = 30.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def home() -> Path:
    """Where answers are kept when the output is local: VISIONFLOW_HOME, or the user's data folder."""
    if chosen := os.environ.get("VISIONFLOW_HOME"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "visionflow"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "visionflow"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "visionflow"


def grace(usual: float | None) -> float | None:
    """Seconds from SIGTERM until being killed, as VISIONFLOW_GRACE says (0: nobody kills); else what is usual there."""
    said = os.environ.get("VISIONFLOW_GRACE", "")
    try:
        seconds = float(said)
    except ValueError:
        return usual
    return seconds if seconds > 0 else None


def alert_per_day() -> Decimal | None:
    """US dollars that an output may cost in a day (UTC) before it is told (VISIONFLOW_ALERT_PER_DAY); None: never."""
    return _amount("VISIONFLOW_ALERT_PER_DAY")


def pause_minutes() -> float:
    """For how long a paused run of a deployment keeps its process before it is suspended (VISIONFLOW_PAUSE_MINUTES)."""
    said = _amount("VISIONFLOW_PAUSE_MINUTES")
    return PAUSE_MINUTES if said is None else float(said)


def _amount(name: str) -> Decimal | None:
    """A number from 0 on. Raises ValueError, which says so, for anything else."""
    said = os.environ.get(name, "").strip()
    if not said:
        return None
    try:
        amount = Decimal(said)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{name} is {said!r}: it must be a number, 0 or more.")
    return amount


def batch_absence() -> float:
    """Seconds in which a Message Batch whose reply was lost is listed, if it was made (VISIONFLOW_BATCH_ABSENCE)."""
    try:
        return max(float(os.environ.get("VISIONFLOW_BATCH_ABSENCE", "")), 0.0)
    except ValueError:
        return 60.0


def keep_server() -> bool:
    """Whether a Prefect server that a run had to start stays up for the next one (VISIONFLOW_KEEP_SERVER=1)."""
    return os.environ.get("VISIONFLOW_KEEP_SERVER", "") not in ("", "0")


def plain_http_allowed() -> bool:
    """Whether a key may be sent by plain http to another machine (VISIONFLOW_ALLOW_HTTP=1)."""
    return os.environ.get("VISIONFLOW_ALLOW_HTTP", "") not in ("", "0")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine."""
    import ipaddress  # here, for `--help` needs none

    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def spare_loopback_the_proxy() -> None:
    """Let no client of this process ask a proxy of the environment for this machine: it would look on its own."""
    if not any(name.lower() in PROXIES and value for name, value in os.environ.items()):
        return
    given = ",".join(os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    spared = list(dict.fromkeys(filter(None, (host.strip() for host in (*given.split(","), *LOOPBACK)))))
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = "*" if "*" in spared else ",".join(spared)
