"""What tests of whole runs share: pictures by code, the command line, and the tables a run leaves."""

import hashlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image, ImageDraw

from flows.__main__ import main
from tasks.simulator import Simulator
from tasks.storage.s3 import s3_filesystem

ROOT = Path(__file__).parents[1]
THOROUGH = os.environ.get("THOROUGH", "") not in ("", "0")  # as `make test-all` sets it


def examples(count: int) -> int:
    """How many examples a property is tried with: so many where tests are thorough, a fifth of them else."""
    return count if THOROUGH else max(count // 5, 20)


def picture(number: int, size: tuple[int, int] = (60, 40), image_format: str = "JPEG") -> bytes:
    """A small picture; another number is another picture."""
    image = Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, number // 7 % 256))
    ImageDraw.Draw(image).text((4, 4), str(number), fill="white")
    buffer = BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def sha(data: bytes) -> str:
    """As the tables and the simulator name an image's bytes."""
    return hashlib.sha256(data).hexdigest()


def draw(folder: Path, count: int, start: int = 0) -> Path:
    """A folder of different pictures: p000.jpg, p001.jpg and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        (folder / f"p{number:03}.jpg").write_bytes(picture(number))
    return folder


def rows(summary: Mapping[str, Any], table: str = "results") -> pd.DataFrame:
    """A table of a finished run, as a person reads it with pandas."""
    uri = {"calls": "calls_table"}.get(table, table)
    return pd.read_parquet(summary[uri])


def run_table(output: Path) -> pd.DataFrame:
    """The `runs` table, oldest run first."""
    return pd.read_parquet(output / "runs").sort_values("run_id", ignore_index=True)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The last line of stdout, which --json makes one JSON object."""
        summary: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return summary


@dataclass
class CommandLine:
    """`visionflow` in this process."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Ended:
        self.capture.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        out, err = self.capture.readouterr()
        return Ended(status, out, err)

    def mistake(self, *arguments: object, status: int) -> str:
        """The one line on stderr with which the command refuses."""
        ended = self(*arguments)
        assert ended.status == status, ended
        line = ended.err.removesuffix("\n")
        assert line.startswith("visionflow: "), line
        assert "\n" not in line and "Traceback" not in ended.err + ended.out
        return line


def start(*arguments: object, **environment: object) -> subprocess.Popen[str]:
    """`visionflow ARGUMENTS` as a process of its own; a variable given as None is unset."""
    variables = {**os.environ, **{name: str(value) for name, value in environment.items() if value is not None}}
    for name, value in environment.items():
        if value is None:
            variables.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *map(str, arguments)],
        cwd=ROOT,
        env=variables,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end(process: subprocess.Popen[str], seconds: float = 90) -> Ended:
    """Wait for a command; it is killed if it takes too long."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"no end after {seconds} s: {out[-2000:]} {err[-2000:]}") from None
    return Ended(process.returncode, out, err)


def heard(process: subprocess.Popen[str], words: str, seconds: float = 90) -> str:
    """What a command has said on stderr by the time that it says these words; `end` has the rest."""
    assert process.stderr is not None
    said, stderr = b"", process.stderr.fileno()
    while words not in said.decode(errors="replace"):
        readable, _, _ = select.select([stderr], [], [], seconds)
        assert readable, f"nothing more within {seconds} s: {said!r}"
        piece = os.read(stderr, 65536)
        assert piece, f"it has ended: {said!r}"
        said += piece
    return said.decode(errors="replace")


def hold(simulator: Simulator, count: int) -> None:
    """Answer nothing from now on, and wait until so many calls are in flight; `simulator.let_go` answers them."""
    simulator.change(latency=600.0)
    earlier = simulator.let_go()

    def held() -> bool:
        ledger = simulator.ledger(entries=False)
        return ledger.in_flight == count and ledger.requests >= earlier + count

    until(held)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What visionflow has logged; libraries log of connections that earlier tests have left to the collector."""
    return [record.getMessage() for record in caplog.records if record.name.partition(".")[0] == "visionflow"]


def forget_s3_connections() -> None:
    """Let the next connection read the AWS variables anew, as a new process would."""
    from s3fs import S3FileSystem

    s3_filesystem.cache_clear()
    S3FileSystem.clear_instance_cache()


def until(true: Callable[[], Any], seconds: float = 120) -> Any:
    """What `true` returns once that is something."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)
    return found
