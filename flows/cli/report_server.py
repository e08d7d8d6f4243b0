"""The reports of served runs, for the links in Prefect's UI: GET on 127.0.0.1, and nothing but `report.html`."""

import hmac
import json
import logging
import os
import stat
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_urlsafe
from shutil import copyfileobj

from config.settings import home
from tasks.reporting.served_reports import VARIABLE, open_report
from tasks.storage.files import write_private

log = logging.getLogger("visionflow")

# Whatever a file of that name holds, it may run no script but the report's own, and ask nobody for anything.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{hash}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; "
    "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}


class ReportServer(ThreadingHTTPServer):
    """Serves on a port of its own until it is closed; links stay good, since port and secret are those of last time."""

    daemon_threads = True

    def __init__(self) -> None:
        port, self.secret = _last_time()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError:  # another has it now
            super().__init__(("127.0.0.1", 0), _Handler)
        self.port = int(self.server_address[1])
        self.hosts = {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}
        with suppress(OSError):
            write_private(_note_path(), json.dumps({"port": self.port, "secret": self.secret}).encode())

    def handle_error(self, *_: object) -> None:
        """Say nothing in somebody's terminal: whoever asked has gone, as a browser does whose tab is closed."""
        log.debug("A report was not sent", exc_info=True)

    @property
    def url(self) -> str:
        """What the address of every report begins with."""
        return f"http://127.0.0.1:{self.port}/{self.secret}"

    def begin(self) -> None:
        """Serve in a thread, and let the runs that this process starts know."""
        threading.Thread(target=self.serve_forever, name="visionflow-reports", daemon=True).start()
        os.environ[VARIABLE] = self.url


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    timeout = 10.0
    server_version, sys_version = "visionflow", ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        """The address has the secret in it."""

    def _answer(self, *, with_body: bool) -> None:
        handle = self._opened()
        if handle is None:
            self.send_error(404, "Nothing is served here")
            return
        with os.fdopen(handle, "rb") as file:
            from tasks.reporting.html import SCRIPT_HASH

            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(os.fstat(handle).st_size))
            self.send_header("Content-Security-Policy", POLICY.format(hash=SCRIPT_HASH))
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                copyfileobj(file, self.wfile)

    def _opened(self) -> int | None:
        """A handle of the report; None for any other path, secret or name of this machine (DNS rebinding)."""
        secret, slash, rest = self.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(secret.encode("utf-8", "replace"), self.server.secret.encode()):
            return None
        if self.headers.get("Host", "") not in self.server.hosts:
            return None
        handle = open_report(slash + rest)
        if handle is not None and not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return None
        return handle


def _last_time() -> tuple[int, str]:
    with suppress(OSError, ValueError, TypeError, KeyError):
        noted = json.loads(_note_path().read_bytes())
        port, secret = int(noted["port"]), str(noted["secret"])
        if 0 < port < 65_536 and len(secret) >= 20:
            return port, secret
    return 0, token_urlsafe(24)


def _note_path() -> Path:
    return home() / "reports.json"
