"""Reports that `visionflow serve` shows: it says by its environment where, and its runs note down their outputs.

An address is `BASE/SECRET/OUTPUT/reports/job=JOB/run=RUN/report.html`. BASE listens on this machine alone; SECRET keeps
its other users out, and OUTPUT is a digest under which a run that was served has noted its output.
"""

import os
import re
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote

from config.settings import home
from tasks.storage.files import write_private

VARIABLE = "VISIONFLOW_REPORTS_URL"  # set by `visionflow serve` for the runs that it starts
ADDRESS = re.compile(r"/([0-9a-f]{32})/(reports)/(job=[^/\x00]+)/(run=[^/\x00]+)/(report\.html)")
NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe in a file's place would be waited for


def report_place(uri: str) -> str:
    """Where a person finds the report of this URI: its address where it is served, else the URI."""
    base = os.environ.get(VARIABLE)
    if not base or "://" in uri:
        return uri
    path = Path(os.path.realpath(uri))
    output, parts = path.parents[3], path.parts[-4:]
    digest = sha256(os.fsencode(output)).hexdigest()[:32]
    try:
        write_private(_noted(digest), os.fsencode(output))
    except OSError:  # the run is not the worse for it
        return uri
    return f"{base}/{digest}/{quote('/'.join(parts), safe='/=')}"


def open_report(address: str) -> int | None:
    """A handle of the report at `/OUTPUT/reports/job=JOB/run=RUN/report.html`, or None.

    Only what a served run has noted is looked into, no link is followed on the way, and only a plain file is opened.
    """
    found = ADDRESS.fullmatch(unquote(address, errors="surrogateescape"))
    if found is None:
        return None
    digest, *parts = found.groups()
    with suppress(OSError, ValueError):
        output = _noted(digest).read_bytes()
        if os.path.realpath(output) == output:
            return _opened(output, parts)
    return None


def _opened(output: bytes, parts: list[str]) -> int:
    folder = os.open(output, os.O_RDONLY | os.O_DIRECTORY | NO_LINK)
    for part in parts[:-1]:
        try:
            inner = os.open(os.fsencode(part), os.O_RDONLY | os.O_DIRECTORY | NO_LINK, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    try:
        return os.open(parts[-1], os.O_RDONLY | NO_LINK, dir_fd=folder)
    finally:
        os.close(folder)


def _noted(digest: str) -> Path:
    return home() / "reports" / digest
