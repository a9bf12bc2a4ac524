"""The Model Context Protocol server: the simulator's questions as read-only tools on one given snapshot.

A client names flows, packets and codes, never files: what can be read is what the command line named. The official
SDK does the protocol (standard input and output); nothing here listens on a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nattrace.sim.errors import InputError, MissingFacility, NattraceError
from nattrace.sim.notebook import Snapshot

MOST_PACKETS = 1000  # of one simulate call
INSTRUCTIONS = """\
Predicts and explains what Linux netfilter, conntrack, NAT and routing do to a flow, from a snapshot of one or several \
hosts. Ask `overview` for the hosts and interfaces, `why` about a flow such as 'tcp 10.0.0.2 -> 8.8.8.8:443 at client', \
`simulate` for packets in a row. An outcome called unknown names the file that would decide it: it is not a guess. \
Nothing is changed anywhere; what_if applies to a copy."""


def make_server(snapshot: Snapshot, bundles: tuple[str, ...] = ()) -> Any:
    """An ``mcp.server.MCPServer`` with the tools on ``snapshot`` and, if any, bundles of ``nattrace confirm --save``.

    Raises MissingFacility without the SDK.
    """
    try:
        from mcp.server import MCPServer
        from mcp.types import ToolAnnotations
    except ImportError:
        raise MissingFacility("the MCP SDK is not installed", remedy="pip install 'nattrace[mcp]'") from None
    from nattrace import __version__

    server = MCPServer("nattrace", version=__version__, instructions=INSTRUCTIONS, log_level="ERROR")
    quiet = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    tools = Tools(snapshot, bundles)
    offered: list[Callable[..., Any]] = [tools.overview, tools.why, tools.simulate, tools.explain]
    for tool in [*offered, tools.confirm_replay] if bundles else offered:
        server.tool(annotations=quiet)(tool)
    return server


class Tools:
    """The tools' functions; their docstrings and types are what a client is shown."""

    def __init__(self, snapshot: Snapshot, bundles: tuple[str, ...] = ()) -> None:
        self._snapshot = snapshot
        self._bundles = bundles

    def overview(self) -> dict[str, Any]:
        """Hosts of the snapshot with their interfaces and addresses, segments between them, and what was assumed."""
        return self._snapshot.overview()

    def why(
        self,
        flow: str,
        expect: list[str] | None = None,
        what_if: dict[str, list[str]] | None = None,
        symptom: str | None = None,
        document: bool = False,
    ) -> dict[str, Any]:
        """What happens to a flow, hop by hop, and why; fixes that were tried out.

        flow: '[PROTO] [SRC[:SPORT]] -> DST[:DPORT] [in IFACE] [at HOST] [uid USER]', or a pasted line of tcpdump,
        conntrack -L, ss or a netfilter LOG line. expect: 'delivered', 'snat A', 'dnat A:P', 'rule nat:POSTROUTING:3',
        'out IFACE', 'reply'. symptom: the trouble in users' words ('no reply', 'ping works, tcp does not'). what_if:
        changes to try on a copy, by kind: set, add, insert, delete, route, rule. document: the whole JSON document too,
        with every step.
        """
        whatif = _changes(what_if)
        result = _asked(lambda: self._snapshot.why(flow, expect=tuple(expect or ()), symptom=symptom, **whatif))
        found: dict[str, Any] = {
            "verdict": result.verdict,
            "outcome": result.outcome,
            "certainty": result.certainty,
            "code": result.code,
            "text": result.text(),
            "fixes": result.fixes,
        }
        if expect:
            found["expect"] = result.to_json()["expect"]
        return found | ({"document": result.to_json()} if document else {})

    def simulate(self, packets: list[dict[str, Any]], replies: bool = False) -> list[dict[str, Any]]:
        """Packets put in one after the other, conntrack state carried over; one result each.

        A packet: {"host": "router", "in": "eth0" or null (sent by the host), "proto": "tcp", "src": "10.0.0.2",
        "dst": "8.8.8.8", "sport": 40000, "dport": 443, "flags": "S", "at": seconds}. replies: also the natural answer.
        """
        if len(packets) > MOST_PACKETS:
            raise _refused(InputError(f"{len(packets)} packets; one call takes {MOST_PACKETS}"))
        return _asked(lambda: list(self._snapshot.simulate(packets, replies=replies)))

    def explain(self, code: str) -> dict[str, Any]:
        """What a reason or diagnosis code means, how it shows, how to cure it."""
        from nattrace.sim.explain.reasons import find, similar

        found = find(code)
        if found is None:
            raise _refused(InputError(f"no code {code!r}", remedy=f"similar: {', '.join(similar(code)) or 'none'}"))
        return {k: list(v) if isinstance(v, tuple) else v for k, v in found._asdict().items()}

    def confirm_replay(self, bundle: int = 0) -> dict[str, Any]:
        """Predicted against observed, hook by hook, from a bundle of `nattrace confirm --save`; bundle: its number from 0."""
        if not 0 <= bundle < len(self._bundles):
            raise _refused(InputError(f"no bundle {bundle}", remedy=f"0 to {len(self._bundles) - 1}"))
        from .live.bundle import replay

        report = _asked(lambda: replay(self._bundles[bundle]))
        return {"text": report.render(), "document": report.to_json()}


def _changes(what_if: dict[str, list[str]] | None) -> dict[str, Any]:
    known = {"set", "add", "insert", "delete", "route", "rule"}
    strange = sorted(set(what_if or ()) - known)
    if strange:
        raise _refused(InputError(f"unknown change {strange[0]!r}", remedy=f"known: {', '.join(sorted(known))}"))
    return {kind: tuple(texts) for kind, texts in (what_if or {}).items() if texts}


def _asked(question: Any) -> Any:
    try:
        return question()
    except NattraceError as error:
        raise _refused(error) from None


def _refused(error: NattraceError) -> Exception:
    """The error as the protocol carries it: a tool's result that says what is wrong, not a broken server."""
    from mcp.server.mcpserver.exceptions import ToolError

    return ToolError(str(error))
