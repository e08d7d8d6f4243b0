"""The child's side of `pool`: one file in, its pages out, until the socket closes.

Started as `python -m tasks.preparing.worker` with the socket as standard input. Three things end a file that hangs:
the parent's clock, an alarm that the kernel delivers even where a decoder never returns, and a limit on processor time.
"""

import contextlib
import json
import math
import os
import resource
import select
import signal
import socket
import threading
import time
from dataclasses import fields
from typing import Any

from tasks.errors import ImageError
from tasks.preparing.pool import FRAME, MEMORY_BYTES
from tasks.types import ImageRules, PreparedImage

GRACE_SECONDS = 5  # the parent's clock comes first


def main() -> None:
    """Serve until the parent is gone."""
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from tasks.preparing import decoding  # after the limits, and before the first file waits for it

    _limit(resource.RLIMIT_FSIZE, 0)  # no decoder may leave a copy of an image on the disk
    with socket.socket(fileno=0) as parent, parent.makefile("rb") as requests:
        parent.sendall(b"\0")
        while header := requests.read(FRAME.size):
            text_length, data_length = FRAME.unpack(header)
            request = json.loads(requests.read(text_length))
            rules = ImageRules(**request["rules"])
            _set_alarm(rules.seconds + GRACE_SECONDS)
            head, body = _answer(decoding.decode, requests.read(data_length), request["format"], rules)
            signal.alarm(0)
            text = json.dumps(head | {"worked": time.process_time()}).encode()
            parent.sendall(FRAME.pack(len(text), len(body)) + text)
            parent.sendall(body)


def _answer(decode: Any, data: bytes, source_format: str, rules: ImageRules) -> tuple[dict[str, Any], bytes]:
    try:
        pages = decode(data, source_format, rules)
    except ImageError as error:
        return {"error": [error.code, str(error)]}, b""
    except MemoryError:
        message = f"Decoding needs more than {MEMORY_BYTES // 2**30} GiB of memory"
        return {"error": ["too_large", message], "exhausted": True}, b""
    except Exception as error:  # noqa: BLE001  # the last boundary: not even a mistake here costs more than the file
        return {"error": ["damaged", f"The {source_format} file is damaged: {type(error).__name__}"]}, b""
    return {"pages": [_describe(page) for page in pages]}, b"".join(page.data for page in pages)


def _describe(page: PreparedImage) -> dict[str, Any]:
    described = {
        field.name: getattr(page, field.name) for field in fields(page) if field.name not in ("data", "sha256")
    }
    return described | {"size": len(page.data)}


def _set_alarm(seconds: float) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(seconds))
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds * (os.cpu_count() or 1)))


def _limit(kind: int, value: int) -> None:
    """Set one limit of this process."""
    with contextlib.suppress(ValueError, OSError):  # the system's own limit is lower, or it has none of this kind
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _end_with_parent() -> None:
    """Leave when the socket's other end closes, which a parent killed without warning does too."""
    watch = select.poll()
    watch.register(0, select.POLLHUP)
    watch.poll()
    os._exit(0)


if __name__ == "__main__":
    main()
