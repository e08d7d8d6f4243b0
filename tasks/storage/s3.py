"""S3 through s3fs: one file system per process, its requests one by one, and its errors in words.

The only module that takes names of s3fs with an underscore. For code on the file system's own event loop they are what
fsspec documents (`_info`, `_cat_file`, `_pipe_file`; https://filesystem-spec.readthedocs.io/en/latest/async.html).
`_call_s3` is the one way to a request's conditions, ETag and next page that keeps s3fs's retries and typed errors.
"""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any, TypeVar

CONNECTIONS = 128
REQUEST_S = 60.0  # for one request, its retries included, as where a store is asked for too much at once,
SLOWEST = 50_000  # and a second for each so many bytes: 32 reads at once on a line of 13 Mbit/s
PART_BYTES = 5_000_000  # what a part of a table is taken to have, to wait for it
MAX_SINGLE_PUT = 5 * 2**30  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html
MOST_REMOVED = 1_000  # by one request: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
SIGNATURE = "s3v4"  # also for signed URLs, for which botocore still takes version 2, which newer buckets refuse
SIGNED_S = 300  # a signed URL is good for so long; it is used at once


Described = tuple[bytes, str | None, datetime | None]  # bytes, ETag, time of the PUT
Facts = dict[str, Any]  # what a server says of an object
T = TypeVar("T")


def is_s3(uri: str) -> bool:
    """Whether the URI names an object or prefix on S3."""
    return uri.startswith("s3://")


@cache
def s3_filesystem() -> Any:
    """The process's s3fs file system; credentials, region and endpoint come from the AWS variables.

    Listings are never cached: a run must see what another worker has just written.
    """
    import s3fs
    from aiobotocore.session import AioSession

    session = AioSession()
    # dateutil, botocore's own, guesses at every format there is: of a listing it would take half the time.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    return s3fs.S3FileSystem(
        session=session,
        use_listings_cache=False,
        max_concurrency=1,  # with more, each read of a whole object first asks for its size, to read it in pieces
        config_kwargs={"max_pool_connections": CONNECTIONS, "signature_version": SIGNATURE},
    )


async def in_time(answer: Awaitable[T], size: int = 0) -> T:
    """What a server answers that gets or gives so many bytes. TimeoutError, an OSError, where it does not in time.

    botocore's time limits are for each read of an answer, and s3fs and botocore both try again: a server that accepts
    connections and says nothing would be waited for six minutes, one that drips for ever.
    """
    seconds = REQUEST_S + size / SLOWEST
    try:
        return await asyncio.wait_for(answer, seconds)
    except TimeoutError:
        raise TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds:.0f} s") from None


def now(function: Callable[..., Awaitable[T]], *arguments: Any, seconds: float | None = None) -> T:
    """What one of these functions, which run on the file system's own event loop, brings; for a thread, which waits.

    No longer than so many seconds, or as long as the function does: TimeoutError.
    """
    from fsspec.asyn import get_loop

    async def brought() -> T:
        return await asyncio.wait_for(function(*arguments), seconds)

    return asyncio.run_coroutine_threadsafe(brought(), get_loop()).result()


async def there(asked: Coroutine[Any, Any, T]) -> T:
    """The same for whoever waits on another event loop."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, s3_filesystem().loop))


async def request(operation: str, **parameters: Any) -> Any:
    """One request as botocore names it, with s3fs's retries. OSError as s3fs translates it."""
    return await in_time(s3_filesystem()._call_s3(operation, **parameters), len(parameters.get("Body", b"")))


async def facts_of(path: str) -> Facts:
    """What S3 knows of the object `bucket/key`. FileNotFoundError if there is none."""
    facts: Facts = await in_time(s3_filesystem()._info(path))
    return facts


async def read_range(path: str, start: int, end: int | None) -> bytes:
    """The bytes [start, end) of the object `bucket/key`, or as many as there are."""
    size = (end or 0) - start
    return bytes(await in_time(s3_filesystem()._cat_file(path, start=start, end=end), max(size, 0)))


async def write_object(path: str, data: bytes) -> None:
    """Write the object `bucket/key`, whole or not at all."""
    await in_time(s3_filesystem()._pipe_file(path, data, chunksize=MAX_SINGLE_PUT), len(data))


async def remove_object(path: str) -> None:
    """Remove the object `bucket/key`."""
    await in_time(s3_filesystem()._rm_file(path))


async def remove_objects(uris: Sequence[str]) -> None:
    """Remove objects of one bucket, a thousand by one request; those that are gone are no error."""
    for first in range(0, len(uris), MOST_REMOVED):
        some = [split_uri(uri) for uri in uris[first : first + MOST_REMOVED]]
        objects = {"Objects": [{"Key": key} for _, key in some], "Quiet": True}
        await request("delete_objects", Bucket=some[0][0], Delete=objects)


async def names_below(uri: str, most: int | None = None) -> list[str]:
    """URIs of the objects below a prefix, in order; the first `most` of them. A thousand are one request."""
    bucket, prefix = split_uri(uri)
    names, more = list[str](), dict[str, str]()
    size = {} if most is None else {"MaxKeys": most}
    while True:
        page = await request("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/", **more, **size)
        keys = [facts["Key"] for facts in page.get("Contents", ())]
        names += [f"s3://{bucket}/{key}" for key in keys if not key.endswith("/")]  # some servers list folders too
        if most is not None or not page.get("IsTruncated"):
            return names
        more = {"ContinuationToken": page["NextContinuationToken"]}


def pages(bucket: str, prefix: str) -> Iterator[list[Facts]]:
    """Pages of the keys that begin with the prefix; while one is taken in, the next is under way. For a thread.

    `Key` is `bucket/key`. A key that ends with a slash stands for a folder.
    """
    loop = s3_filesystem().loop

    def ask(**more: str) -> Any:
        page = request("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        return asyncio.run_coroutine_threadsafe(page, loop)

    coming = ask()
    try:
        while coming is not None:
            page = coming.result()
            coming = ask(ContinuationToken=page["NextContinuationToken"]) if page.get("IsTruncated") else None
            yield [
                {**facts, "Key": f"{bucket}/{facts['Key']}", "size": facts["Size"]}
                for facts in page.get("Contents", ())
            ]
    finally:
        if coming is not None:
            coming.cancel()


def without_scheme(uri: str) -> str:
    """`bucket/key` as s3fs writes it."""
    return str(s3_filesystem()._strip_protocol(uri))


async def read_object(uri: str, most: int | None = None, size: int = 0) -> Described:
    """An object's bytes, at most `most` and one more, and the ETag and time that they have, by one request.

    It is waited for as `size` bytes take. Of what a call costs in s3fs and botocore, most goes into headers that nobody
    looks at here: a signed URL asked for through botocore's own HTTP session takes less than half. Whatever is neither
    the bytes nor a missing key, s3fs asks for again: it knows retries, redirects and errors by name. Raises
    FileNotFoundError if there is no such object.
    """
    return await in_time(_read(uri, most), size)


async def _read(uri: str, most: int | None) -> Described:
    try:
        status, body, headers = await _get(uri, most)
    except Exception:  # noqa: BLE001  # s3fs will meet it again, unless it has passed
        status, body, headers = 0, b"", {}
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return body, _plain(headers.get("ETag")), _timestamp(headers.get("Last-Modified"))
    if status == HTTPStatus.NOT_FOUND and b"<Code>NoSuchKey</Code>" in body:
        raise FileNotFoundError(errno.ENOENT, "No such object", uri)
    bucket, key = split_uri(uri)
    answer = await request("get_object", Bucket=bucket, Key=key)
    async with answer["Body"] as stream:
        data = bytes(await (stream.read() if most is None else stream.read(most + 1)))
        return data, _plain(answer.get("ETag")), answer.get("LastModified")


def read_object_now(uri: str) -> bytes:
    """All bytes of an object, for a thread, which waits."""
    return now(read_object, uri, None, PART_BYTES)[0]


async def _get(uri: str, most: int | None) -> tuple[int, bytes, Any]:
    """Status, body and headers of one GET, whatever they are.

    A range of an empty object is refused; s3fs then reads it.
    """
    from botocore.awsrequest import AWSRequest

    fs = s3_filesystem()
    bucket, key, _ = fs.split_path(uri)
    await fs.set_session()
    client = await fs.get_s3(bucket)
    url = await client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=SIGNED_S)
    # botocore's own session, for its certificates, proxies and pool; there is no public way to it
    headers = {} if most is None else {"Range": f"bytes=0-{most}"}
    response = await client._endpoint.http_session.send(AWSRequest("GET", url, headers).prepare())
    return response.status_code, await response.content, response.headers


def _plain(etag: Any) -> str | None:
    """An ETag as the tables have it, without quotes."""
    return str(etag or "").strip('"') or None


def _timestamp(text: Any) -> datetime:
    """A time as S3 writes it in listings (ISO 8601), or in any other form."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):  # in headers (RFC 9110) or as a number
        from botocore.utils import parse_timestamp

        parsed: datetime = parse_timestamp(text)
        return parsed


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def explain_s3(error: BaseException, uri: str) -> str:
    """One line for a person: what happened, to what, and what to do."""
    bucket = split_uri(uri)[0]
    code = error_code(error)
    who = f" with key {_masked_key()}" if _masked_key() else ""
    if code == "NoCredentialsError":
        return f"No AWS credentials for {uri}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
    if code in ("NoSuchBucket", "404") or isinstance(error, FileNotFoundError):
        return (
            f"There is no {uri}: check the bucket {bucket!r} and the path, and AWS_ENDPOINT_URL if it is not Amazon's."
        )
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return f"S3 refuses the credentials for {uri} ({code}{who}). Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    if code in ("AccessDenied", "403") or isinstance(error, PermissionError):
        return (
            f"No access to {uri} (403 {code or 'AccessDenied'}{who}). Check AWS_ACCESS_KEY_ID, "
            "or the bucket's policy for s3:ListBucket, s3:GetObject and s3:PutObject."
        )
    where = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "Amazon S3"
    if code in ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionError", "ConnectionClosedError"):
        return f"Cannot reach {where} for {uri}. Check AWS_ENDPOINT_URL and the network."
    reason = " ".join(str(error).split())[:200]
    return f"S3 failed on {uri} ({code or type(error).__name__}: {reason}). Try again, or check {where}."


def error_code(error: BaseException | None) -> str:
    """The service's error code, or the class of botocore's own error, wherever in the chain it stands."""
    seen = 0
    while error is not None and seen < 6:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        if type(error).__module__.startswith("botocore"):
            return type(error).__name__
        if isinstance(error, ConnectionError):
            return "ConnectionError"
        error, seen = error.__cause__ or error.__context__, seen + 1
    return ""


def _masked_key() -> str:
    key = os.environ.get("AWS_ACCESS_KEY_ID", "")
    return f"{key[:4]}…{key[-3:]}" if len(key) > 8 else ""
