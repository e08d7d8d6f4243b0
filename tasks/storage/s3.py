"""S3 through s3fs: one file system per process, its requests one by one, and its errors in words.

The only module that takes names of s3fs with an underscore. For code on the file system's own event loop they are what
fsspec documents (`_info`, `_cat_file`, `_pipe_file`; https://filesystem-spec.readthedocs.io/en/latest/async.html).
`_call_s3` is the one way to a request's conditions, ETag and next page that keeps s3fs's retries and typed errors.
"""

import errno
import os
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any

CONNECTIONS = 128
SIGNATURE = "s3v4"  # also for signed URLs, for which botocore still takes version 2, which newer buckets refuse
SIGNED_S = 300  # a signed URL is good for so long; it is used at once


Described = tuple[bytes, str | None, datetime | None]  # bytes, ETag, time of the PUT


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


async def request(operation: str, **parameters: Any) -> Any:
    """One request as botocore names it, with s3fs's retries. OSError as s3fs translates it."""
    return await s3_filesystem()._call_s3(operation, **parameters)


async def facts_of(path: str) -> dict[str, Any]:
    """What S3 knows of the object `bucket/key`. FileNotFoundError if there is none."""
    facts: dict[str, Any] = await s3_filesystem()._info(path)
    return facts


async def first_bytes(path: str, size: int) -> bytes:
    """The first bytes of the object `bucket/key`, at most so many."""
    return bytes(await s3_filesystem()._cat_file(path, start=0, end=size))


async def write_object(path: str, data: bytes) -> None:
    """Write the object `bucket/key`, whole or not at all."""
    await s3_filesystem()._pipe_file(path, data)


def without_scheme(uri: str) -> str:
    """`bucket/key` as s3fs writes it."""
    return str(s3_filesystem()._strip_protocol(uri))


async def read_object(uri: str) -> bytes:
    """All bytes of an object, by one request, made on the file system's own event loop.

    Of what a call costs in s3fs and botocore, most goes into headers that nobody looks at here: a signed URL asked for
    through botocore's own HTTP session takes less than half. Whatever is neither the bytes nor a missing key, s3fs asks
    for again: it knows retries, redirects and errors by name. Raises FileNotFoundError if there is no such object.
    """
    return (await _described(uri))[0]


async def _described(uri: str) -> Described:
    try:
        status, body, headers = await _get(uri)
    except Exception:  # noqa: BLE001  # s3fs will meet it again, unless it has passed
        status, body, headers = 0, b"", {}
    if status == HTTPStatus.OK:
        return body, _plain(headers.get("ETag")), _timestamp(headers.get("Last-Modified"))
    if status == HTTPStatus.NOT_FOUND and b"<Code>NoSuchKey</Code>" in body:
        raise FileNotFoundError(errno.ENOENT, "No such object", uri)
    bucket, key = split_uri(uri)
    answer = await request("get_object", Bucket=bucket, Key=key)
    async with answer["Body"] as stream:
        return bytes(await stream.read()), _plain(answer.get("ETag")), answer.get("LastModified")


def read_described(uri: str) -> Described:
    """An object's bytes, and the ETag and time that they have, by one request. For a thread, which waits."""
    from fsspec.asyn import sync

    described: Described = sync(s3_filesystem().loop, _described, uri)
    return described


def read_object_now(uri: str) -> bytes:
    """The same for a thread, which waits."""
    from fsspec.asyn import sync

    data: bytes = sync(s3_filesystem().loop, read_object, uri)
    return data


async def _get(uri: str) -> tuple[int, bytes, Any]:
    """Status, body and headers of one GET, whatever they are."""
    from botocore.awsrequest import AWSRequest

    fs = s3_filesystem()
    bucket, key, _ = fs.split_path(uri)
    await fs.set_session()
    client = await fs.get_s3(bucket)
    url = await client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=SIGNED_S)
    # botocore's own session, for its certificates, proxies and pool; there is no public way to it
    response = await client._endpoint.http_session.send(AWSRequest("GET", url).prepare())
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
