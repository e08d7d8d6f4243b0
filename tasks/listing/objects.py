"""Images on S3, page by page: no more keys are held than two pages have, one taken in and the next under way."""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain, islice
from typing import Any
from urllib.parse import urlsplit

from tasks.listing.kinds import SNIFFED_BYTES, NameFilter, extension, has_wildcard, is_image, kind, literal
from tasks.storage.s3 import Facts, facts_of, now, pages, read_range, request, s3_filesystem, split_uri, without_scheme
from tasks.types import Source

REQUESTS_AT_ONCE = 64  # requests about single objects


def from_s3(source: str, wanted: NameFilter, passed_over: Counter[str]) -> Iterator[Source]:
    """Images below the prefix, images that match the glob, or the one object, in the server's order."""
    root = literal(source).rpartition("/")[0] if has_wildcard(source) else source
    empty = True
    for page in _matching(source) if has_wildcard(source) else _below(source):
        empty = empty and not page
        shown = [facts for facts in page if _file(facts) and not _file(facts).startswith(".")]
        images = {facts["Key"]: s3_source(f"s3://{facts['Key']}", facts, root) for facts in shown}
        shown = [facts for facts in shown if wanted(images[facts["Key"]].name)]
        first = _first_bytes([facts for facts in shown if not extension(_file(facts))])
        for facts in shown:
            key, file = facts["Key"], _file(facts)
            if is_image(file, key, first.__getitem__):
                yield images[key]
            else:
                passed_over[kind(file)] += 1
    if empty:  # which may be because there is no such bucket

        async def look() -> None:
            await request("head_bucket", Bucket=split_uri(source)[0])

        now(look)


def rooted(source: str, found: Iterator[Source]) -> tuple[str, Iterator[Source]]:
    """What every URI begins with, and the images: a prefix, unless it is the name of the one object."""
    root = f"{literal(source).rpartition('/')[0]}/" if has_wildcard(source) else f"{source.rstrip('/')}/"
    first = next(found, None)
    if first is None:
        return root, found
    return root if first.uri.startswith(root) else "", chain([first], found)


def enough(found: Iterator[Source], source: str, root: str, limit: int | None) -> Iterator[Source]:
    """As many of the images as hold the first `limit` by URI, whatever is known of the server's order."""
    if split_uri(source)[0].endswith("--x-s3"):  # a directory bucket lists in no order
        return found
    host = urlsplit(s3_filesystem().s3.meta.endpoint_url).hostname or ""
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):  # keys by their bytes, as URIs are sorted
        return islice(found, limit)
    return first_by_uri(found, root, limit)


def first_by_uri(found: Iterator[Source], root: str, limit: int | None) -> Iterator[Source]:
    """Enough to hold the first `limit` by URI, of a server that lists by key or, as some do, folder by folder.

    Once that many were listed, smaller URIs can only come from beside the folder of the greatest one: `a.jpg` after
    `a/b`. The next image past that folder ends it.
    """
    greatest = ""
    for count, image in enumerate(found):
        if limit is not None and count >= limit:
            folder, slash, _ = greatest.removeprefix(root).partition("/")
            if not slash or image.uri >= f"{root}{folder}0":  # "0" comes next to "/"
                return
        greatest = max(greatest, image.uri)
        yield image


def s3_source(uri: str, facts: Facts, root: str) -> Source:
    """What S3 says of an object."""
    name = uri.removeprefix(root.rstrip("/") + "/") if uri.startswith(root) else uri
    etag = str(facts.get("ETag") or "").strip('"') or None
    return Source(uri, name, int(facts["size"] or 0), facts.get("LastModified") or None, etag)


def describe(uris: list[str]) -> dict[str, Facts]:
    """What S3 knows of each object; objects that are not there are left out."""
    return _each(uris, lambda uri: facts_of(uri.removeprefix("s3://")))


def _below(source: str) -> Iterator[list[Facts]]:
    """Objects below the prefix, or the object of that very name where there are none."""
    fs = s3_filesystem()
    path = without_scheme(source)
    bucket, key, _ = fs.split_path(path)
    empty = True
    for page in _pages(bucket, f"{key.lstrip('/')}/" if key else ""):
        empty = empty and not page
        yield page
    if empty and key:
        yield [{**facts, "Key": facts["name"]} for facts in describe([path]).values() if facts["type"] == "file"]


def _matching(pattern: str) -> Iterator[list[Facts]]:
    """Objects that match, as fsspec understands a pattern."""
    from fsspec.utils import glob_translate

    path = without_scheme(pattern)
    matches = re.compile(glob_translate(path + "/" * pattern.endswith("/"))).match
    bucket, slash, prefix = literal(path).partition("/")
    for page in _pages(bucket if slash else "", prefix):
        yield [facts for facts in page if matches(facts["Key"])]


def _pages(bucket: str, prefix: str) -> Iterator[list[Facts]]:
    if not bucket:
        raise ValueError("Cannot traverse all of S3")
    return pages(bucket, prefix)


def _first_bytes(objects: list[Facts]) -> dict[str, bytes | None]:
    """The start of each object, by its key; None where it is refused.

    Nothing of one that is gone, or empty and without a range of bytes.
    """

    async def start(key: str) -> bytes | None:
        try:
            return await read_range(key, 0, SNIFFED_BYTES)
        except PermissionError:
            return None

    return defaultdict(bytes, _each([facts["Key"] for facts in objects if facts["size"]], start))


def _each(keys: list[str], ask: Callable[[str], Awaitable[Any]]) -> dict[str, Any]:
    """The answer for each key, many asked for at once; without those that are not there."""
    if not keys:
        return {}

    async def answers() -> list[Any]:
        gate = asyncio.Semaphore(REQUESTS_AT_ONCE)

        async def one(key: str) -> Any:
            async with gate:
                return await ask(key)

        return await asyncio.gather(*map(one, keys), return_exceptions=True)

    found = dict(zip(keys, now(answers), strict=True))
    for answer in found.values():
        if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError):
            raise answer
    return {key: answer for key, answer in found.items() if not isinstance(answer, FileNotFoundError)}


def _file(facts: Facts) -> str:
    """The last part of an object's key; nothing where the key stands for a folder."""
    key: str = facts["Key"]
    return key.rpartition("/")[2]
