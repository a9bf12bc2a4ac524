"""Stories, single events and totals as JSON lines (nattrace/trace/1)."""

from __future__ import annotations

from typing import Any

from ..drops import Why
from ..event import HOOKS, KIND
from ..scene import Scene
from ..steps import entry_json, fib_error, gateway, header, table_name
from ..story import Story, to_json

SCHEMA = "nattrace/trace/1"


def story_line(story: Story, why: Why | None) -> dict[str, Any]:
    """A whole packet."""
    document = to_json(story)
    document["explanation"] = None if why is None else why._asdict() | {
        "evidence": list(why.evidence), "cure": list(why.cure)
    }  # fmt: skip
    return document


def event_line(event: Any, scene: Scene, number: int) -> dict[str, Any]:
    """One event of a packet."""
    inum, kind = int(event["netns"]), KIND(int(event["kind"]))
    out: dict[str, Any] = {
        "schema": SCHEMA, "kind": "event", "event": kind.name, "number": number, "ts_ns": int(event["ts"]),
        "host": scene.host(inum), "cpu": int(event["cpu"]), "in": scene.device(inum, int(event["indev"])),
        "out": scene.device(inum, int(event["outdev"])), "packet": header(event), "conntrack": entry_json(event),
    }  # fmt: skip
    if kind == KIND.tap:
        out |= {"hook": HOOKS[int(event["hook"])], "priority": int(event["prio"])}
    elif kind == KIND.drop:
        out |= {"reason": scene.reason(int(event["reason"])), "function": scene.symbol(int(event["aux"]))}
    elif kind == KIND.icmp_send:
        out |= dict(zip(("type", "code"), divmod(int(event["reason"]), 256), strict=True))
    elif kind == KIND.fib:
        out |= {"table": table_name(int(event["table"])), "error": fib_error(event), "gateway": gateway(event)}
    return out


def totals_line(totals: dict[str, Any]) -> dict[str, Any]:
    """The last line."""
    return {"schema": SCHEMA, "kind": "totals"} | totals
