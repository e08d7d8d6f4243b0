"""Fixtures that several test files share."""

from collections.abc import Iterator

import pytest

from tests.s3 import S3Server, serve_s3


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with an empty bucket; the AWS_* variables name it until the session ends."""
    with serve_s3(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.env.items():
            environment.setenv(name, value)
        environment.delenv("AWS_PROFILE", raising=False)
        environment.delenv("AWS_SESSION_TOKEN", raising=False)
        yield server
