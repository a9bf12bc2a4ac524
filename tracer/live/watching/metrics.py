"""The sums of a watch for Prometheus: text exposition format 0.0.4 on a port of the loopback, unless told otherwise."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ....sim.errors import InputError

DEFAULT = "127.0.0.1:9433"
CONTENT = "text/plain; version=0.0.4; charset=utf-8"


def parse(text: str) -> tuple[str, int]:
    """``ADDRESS:PORT``, ``[ADDRESS]:PORT`` or ``PORT`` (then the loopback)."""
    address, _, port = (text or DEFAULT).rpartition(":")
    address = address.strip("[]") or "127.0.0.1"
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) < 65536:
        raise InputError(f"--metrics {text!r}: expected ADDRESS:PORT", remedy=f"--metrics {DEFAULT}")
    return address, int(port)


def exposition(told: dict[str, Any]) -> str:
    """The document of ``watch --json`` as metrics."""
    groups = [
        (_labels(**{k: g[k] for k in ("what", "host", "where", "cause")}), g["count"]) for g in told["disagreements"]
    ]
    rows = [
        ("nattrace_connections_total", "counter", "New connections seen.", [("", told["connections"])]),
        ("nattrace_agreed_total", "counter", "Connections that became what was predicted.", [("", told["agreed"])]),
        ("nattrace_disagreed_total", "counter", "Connections that did not, by kind, place and cause.", groups or [("", 0)]),
        ("nattrace_not_checked_total", "counter", "Connections that could not be judged, by reason.",
         [(_labels(reason=why), count) for why, count in told["not_checked"].items()] or [("", 0)]),
        ("nattrace_events_lost_total", "counter", "Events that the kernel could not deliver, by stream.",
         [(_labels(stream=name), count) for name, count in told["lost"].items()] or [("", 0)]),
        ("nattrace_snapshots_total", "counter", "Snapshots taken anew.", [("", told["renewals"])]),
    ]  # fmt: skip
    if told["agreement"] is not None:
        rows.append(("nattrace_agreement_ratio", "gauge", "Agreed among those checked.", [("", told["agreement"])]))
    out = []
    for name, kind, help_, values in rows:
        out += [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]
        out += [f"{name}{labels} {value}" for labels, value in values]
    return "\n".join(out) + "\n"


def _labels(**values: str) -> str:
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for k, v in values.items()}
    return "{" + ",".join(f'{k}="{v}"' for k, v in escaped.items()) + "}"


class Endpoint:
    """Serves what was published last; one thread, no request changes anything."""

    def __init__(self, address: str) -> None:
        host, port = parse(address)
        self.text = ""
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.split("?")[0] not in ("/", "/metrics"):
                    self.send_error(404)
                    return
                body = endpoint.text.encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            address_family = 10 if ":" in host else 2
            daemon_threads = True

        try:
            self.server = Server((host, port), Handler)
        except OSError as error:
            raise InputError(f"--metrics {address}: {error.strerror}") from None
        name = f"[{host}]" if ":" in host else host
        self.address = f"http://{name}:{self.server.server_address[1]}/metrics"

    def __enter__(self) -> Endpoint:
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True, name="nattrace-metrics")
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def publish(self, told: dict[str, Any]) -> None:
        self.text = exposition(told)


__all__ = ["DEFAULT", "Endpoint", "exposition"]
