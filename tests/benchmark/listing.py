"""Listing at scale: seconds, memory, and what a finished tenth of the run costs to skip.

    python -m tests.benchmark.listing [--keys 1000000] [--files 100000]

The keys are made up by a small server that answers ListObjectsV2 over a real socket, a thousand a page, as Amazon's
does. Server and listing are processes of their own; the listing's is the flow's without Prefect.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.benchmark.launch import KILOBYTE
from tests.benchmark.measuring import BenchmarkError, measure, table
from tests.benchmark.services import ROOT

PAGE = 1000
FOLDER = 1000  # images in one
CHUNK = 100
SECONDS = 1800.0
HEADER = ("images", "", "s", "CPU s", "bytes/image", "peak MB", "before MB")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_REGION": "us-east-1"}


def main() -> None:
    """Measure and print; the other commands are the processes that this one starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000, help="on S3 (default: %(default)s)")
    parser.add_argument("--files", type=int, default=100_000, help="on disk (default: %(default)s)")
    parser.add_argument("--serve", type=int, metavar="KEYS", help=argparse.SUPPRESS)
    parser.add_argument("--list", metavar="SOURCE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
    elif options.list:
        print(json.dumps(listed(options.list)))
    else:
        compare(options.keys, options.files)


def compare(keys: int, files: int) -> None:
    """A table of both."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if keys:
            with served(keys) as url:
                rows += lines("keys on S3", folder / "s3", "s3://pictures/2026", keys, AWS_ENDPOINT_URL=url)
        if files:
            rows += lines("files on disk", folder / "disk", str(make_files(folder / "files", files)), files)
    print(table(HEADER, rows))


def lines(what: str, log: Path, source: str, expected: int, **environment: str) -> list[list[str]]:
    """What a process of its own takes to list the source, and to skip a tenth of it."""
    done = measure(
        ["-m", "tests.benchmark.listing", "--list", source], {**CREDENTIALS, **environment}, log, seconds=SECONDS
    )
    if done.status:
        raise BenchmarkError(log.with_suffix(".err").read_text(encoding="utf-8")[-2000:])
    found = json.loads(done.out)
    if (found["images"], found["left"]) != (expected, expected - expected // 10):
        raise BenchmarkError(f"{found['images']:,} of {expected:,} listed, {found['left']:,} left")
    return [
        [f"{expected:,} {what}" if step == "list" else "", step, *figures(found, step)]
        for step in ("list", "skip a tenth")
    ]


def figures(found: dict[str, Any], step: str) -> list[str]:
    """Of one step; its peak is the process's until then."""
    taken = found[step]
    size = f"{found['bytes'] / found['images']:.0f}" if step == "list" else "-"
    return [
        *(f"{taken['wall_s']:.2f}", f"{taken['cpu_s']:.2f}", size),
        *(f"{taken['peak_bytes'] / 1e6:.0f}", f"{found['before_bytes'] / 1e6:.0f}"),
    ]


def listed(source: str) -> dict[str, Any]:
    """List the source, then take over a first tenth from finished chunks."""
    import tasks.planning.plan  # noqa: F401  # what a run has loaded before it lists
    from tasks.listing import list_images
    from tasks.storage.s3 import is_s3, s3_filesystem

    if is_s3(source):
        s3_filesystem().call_s3("list_objects_v2", Bucket="pictures", Prefix="none/")  # a connection, botocore's data
    before = peak_bytes()
    with clock() as listing:
        images = list_images(source).images
    with clock() as skipping:
        left = skip_a_tenth(images)
    return {
        "images": len(images),
        "bytes": images.nbytes,
        "left": left,
        "before_bytes": before,
        "list": listing,
        "skip a tenth": skipping,
    }


def skip_a_tenth(images: Any) -> int:
    """Images that are left once finished chunks have told of the first tenth; the rows are made here too."""
    from tasks.orchestration.chunks import Remaining
    from tasks.recording.rows import source_columns

    remaining = Remaining(images)
    for start in range(0, len(images) // 10, CHUNK):
        chunk = images[start : min(start + CHUNK, len(images) // 10)]
        if len(remaining.take([{**source_columns(image), "status": "ok"} for image in chunk])) != len(chunk):
            raise BenchmarkError("a finished image was not recognised")
    return sum(1 for _ in remaining.left)


@contextmanager
def clock() -> Iterator[dict[str, float]]:
    """What the block takes, once it has ended."""
    taken: dict[str, float] = {}
    wall, cpu = perf_counter(), process_time()
    yield taken
    taken |= {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu, "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE


def make_files(folder: Path, count: int) -> Path:
    """Small files with the names of images, a thousand a folder."""
    for number in range(count):
        place = folder / f"{number // FOLDER:05}"
        if number % FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"image-{number:07}.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@contextmanager
def served(keys: int) -> Iterator[str]:
    """The address of a server of so many keys, a process of its own."""
    command = [sys.executable, "-m", "tests.benchmark.listing", "--serve", str(keys)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def serve(keys: int) -> None:
    """Answer until the process is ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := (await reader.readline()).decode():
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            query = {name: values[0] for name, values in parse_qs(urlsplit(request.split()[1]).query).items()}
            body = page(keys, query.get("prefix", ""), int(query.get("continuation-token", 0)))
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def page(keys: int, prefix: str, start: int) -> bytes:
    """A page of ListObjectsV2: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
    end = min(start + PAGE, keys) if prefix == "2026/" else start
    contents = "".join(
        f"<Contents><Key>2026/{number // FOLDER:05}/image-{number:07}.jpg</Key>"
        f"<LastModified>2026-11-23T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000Z</LastModified>"
        f"<ETag>&quot;{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}&quot;</ETag>"
        f"<Size>{200_000 + number % 1000}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(start, end)
    )
    more = end < keys and end > start
    token = f"<NextContinuationToken>{end}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>pictures</Name><Prefix>{prefix}</Prefix><KeyCount>{end - start}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}"
        "</ListBucketResult>"
    ).encode()


if __name__ == "__main__":
    main()
