"""The server of ``nattrace view``: the standard library's HTTP server on the loopback address, for one user and read-only.

Whoever else sits on this machine, or whatever other page is open in the browser, must get nothing: every address begins
with a random token, the Host header has to be this server's own (DNS rebinding), requests of other origins are refused,
no header allows sharing, bodies are bounded, and slow clients are dropped.
"""

from __future__ import annotations

import json
import secrets
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nattrace.sim.errors import NattraceError

from .desk import Desk

LOOPBACK = "127.0.0.1"
LONGEST_BODY = 64 * 1024
PATIENCE = 10.0  # seconds for a request to arrive


class Server(ThreadingHTTPServer):
    """One desk behind one token."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, desk: Desk, port: int = 0) -> None:
        super().__init__((LOOPBACK, port), Handler)
        self.desk = desk
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event; anything else was answered with status 500 already."""


class Refused(Exception):
    """A request that gets a status and a sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """GET the page or a table, POST a question."""

    server: Server
    timeout = PATIENCE
    server_version = "nattrace"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Addresses hold the token: nothing is logged."""

    # ------------------------------------------------------------------------------------------------

    def _answer(self, make: Any) -> None:
        try:
            self._admit()
            status, kind, body = make()
        except Refused as error:
            self.close_connection = True  # its body may still be on the way
            status, kind, body = error.status, "application/json", _json({"error": str(error)})
        except NattraceError as error:
            status, kind, body = 422, "application/json", _json({"error": str(error)})
        except Exception as error:  # a fault of ours: said to the user, and the next question is answered
            text = f"a fault of nattrace itself: {type(error).__name__}: {error}"
            status, kind, body = 500, "application/json", _json({"error": text})
        self._send(status, kind, body)

    def _admit(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            raise Refused(403, "another host was asked for")
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            raise Refused(403, "another origin asks")
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "another site asks")
        token, _, self.rest = urlsplit(self.path).path.removeprefix("/").partition("/")
        if not compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            raise Refused(403, "the address lacks this session's token: use the one that nattrace view printed")

    def _get(self) -> tuple[int, str, bytes]:
        if self.rest == "":
            from nattrace.sim.render.desk import desk_page

            return 200, "text/html; charset=utf-8", desk_page(self.server.desk.name, self.server.desk.world).encode()
        if self.rest == "table":
            query = parse_qs(urlsplit(self.path).query, max_num_fields=8)
            name, text, offset = (query.get(k, [""])[0] for k in ("name", "text", "offset"))
            number = int(offset) if offset.isascii() and offset.isdigit() and len(offset) < 9 else 0
            return 200, "application/json", _json(self.server.desk.table(name, text[:200], number))
        raise Refused(404, "there is no such page")

    def _post(self) -> tuple[int, str, bytes]:
        if self.rest != "why":
            raise Refused(404, "there is no such page")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "expected application/json")
        given = self.headers.get("Content-Length", "")
        if not (given.isascii() and given.isdigit() and len(given) < 10):
            raise Refused(411, "expected Content-Length")
        if int(given) > LONGEST_BODY:
            raise Refused(413, f"longer than {LONGEST_BODY} bytes")
        try:
            asked = json.loads(self.rfile.read(int(given)))
        except (ValueError, RecursionError):
            raise Refused(400, "not JSON") from None
        return 200, "application/json", _json(self.server.desk.why(asked))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Content-Security-Policy": "frame-ancestors 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()
