"""Makes the bucket of compose.yaml, whose store may still be starting; `python make_bucket.py NAME`."""

import sys
from time import monotonic, sleep

from s3fs import S3FileSystem

WAIT_S = 60.0


def make_bucket(name: str) -> None:
    """Make it unless it is there. Raises OSError if the store does not answer within a minute."""
    deadline = monotonic() + WAIT_S
    while True:
        try:
            store = S3FileSystem()
            if not store.exists(name):
                store.mkdir(name)
            return
        except OSError:
            if monotonic() >= deadline:
                raise
        sleep(1)


if __name__ == "__main__":
    make_bucket(sys.argv[1])
