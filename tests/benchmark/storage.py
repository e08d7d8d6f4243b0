"""Where images lie and outputs go: this machine's disk, or a real S3 server in a process of its own."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Protocol

from tests.benchmark.distance import farther
from tests.runs import forget_s3_connections
from tests.s3 import S3Server, s3_machine

UPLOADS = 8


class Storage(Protocol):
    """What the contestants read from and write to."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to reach it."""

    @property
    def pid(self) -> int | None:
        """Its server's process, if it has one."""

    @property
    def near(self) -> "Storage":
        """The same without any distance."""

    def images(self, folder: Path) -> str:
        """The URI under which the folder's files are found; they are put there first if they have to be."""

    def output(self, place: Path) -> str:
        """The URI of an output that nobody has written to."""


@dataclass(frozen=True)
class Disk:
    """Folders as they are."""

    environment: Mapping[str, str] = field(default_factory=dict)
    pid: int | None = None

    @property
    def near(self) -> "Disk":
        """Itself."""
        return self

    def images(self, folder: Path) -> str:
        """The folder itself."""
        return str(folder)

    def output(self, place: Path) -> str:
        """A folder within the place, which is new."""
        return str(place / "output")


@dataclass
class Bucket:
    """A bucket of a local S3 server. A folder is uploaded once, and known by its name."""

    server: S3Server
    pid: int
    nearest: S3Server
    _uploaded: set[str] = field(default_factory=set)
    _outputs: Iterator[int] = field(default_factory=count)

    @property
    def environment(self) -> Mapping[str, str]:
        """The AWS variables."""
        return self.server.env

    @property
    def near(self) -> "Bucket":
        """The server at its own address."""
        return replace(self, server=self.nearest)

    def images(self, folder: Path) -> str:
        """Upload what was not uploaded before."""
        client, prefix = self.server.client(), f"images/{folder.name}"
        files = {f"{prefix}/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()}
        new = files.keys() - self._uploaded

        def put(key: str) -> None:  # client.upload_file takes twice as long for a small file
            client.put_object(Bucket=self.server.bucket, Key=key, Body=files[key].read_bytes())

        with ThreadPoolExecutor(UPLOADS) as threads:
            list(threads.map(put, new))
        self._uploaded |= new
        return f"s3://{self.server.bucket}/{prefix}"

    def output(self, place: Path) -> str:
        """A prefix that was never used."""
        return f"s3://{self.server.bucket}/runs/{place.name}-{next(self._outputs)}"


@contextmanager
def bucket(folder: Path, latency: float = 0.0) -> Iterator[Bucket]:
    """A server with an empty bucket, which this process may read too while it lasts; so many seconds away."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        machine = stack.enter_context(s3_machine(folder))
        assert machine.process is not None
        server = machine.server
        if latency:
            server = replace(server, endpoint=stack.enter_context(farther(server.endpoint, latency)))
        os.environ.update(server.env)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            os.environ.pop(name, None)
        forget_s3_connections()
        yield Bucket(server, machine.process.pid, machine.server)
