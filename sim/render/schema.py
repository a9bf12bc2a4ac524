"""JSON Schemas (draft 2020-12) of every machine-readable output; ``nattrace schema`` prints them, the tests validate."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
OUTCOMES = ["delivered", "left", "dropped", "rejected", "unreachable", "never_sent", "queued", "stolen", "looped"]


def _maybe(*types: str) -> Schema:
    return {"type": [*types, "null"]}


def _object(properties: Schema, required: list[str] | None = None, extra: bool = True) -> Schema:
    out: Schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    return out if extra else out | {"additionalProperties": False}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


TEXT, BOOL, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
DRAWN = _object(
    {"ranges": _array({"type": "array", "items": COUNT, "minItems": 2, "maxItems": 2}), "except": _array(COUNT)},
    extra=False,
)
PORT = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 65535}, DRAWN, {"type": "null"}]}
PACKET = _object(
    {
        "proto": _maybe("string"),
        "src": _maybe("string"),
        "dst": _maybe("string"),
        "sport": PORT,
        "dport": PORT,
        "icmp_id": PORT,
        "type": _maybe("integer"),
        "code": _maybe("integer"),
        "seq": _maybe("integer"),
        "flags": _maybe("string"),
        "tcp_seq": _maybe("integer"),
        "tcp_ack": _maybe("integer"),
        "window": _maybe("integer"),
        "mss": _maybe("integer"),
        "ttl": _maybe("integer"),
        "tos": _maybe("integer"),
        "len": _maybe("integer"),
        "mark": _maybe("integer"),
        "df": _maybe("boolean"),
        "spi": _maybe("integer"),
        "mtu": _maybe("integer"),
        "gateway": _maybe("string"),
        "inner": {"anyOf": [{"$ref": "#/$defs/packet"}, {"type": "null"}]},
    },
    ["proto", "src", "dst"],
)
TUPLE = _object(
    {"proto": TEXT, "src": TEXT, "dst": TEXT, "sport": PORT, "dport": PORT, "icmp_id": PORT}, ["proto", "src", "dst"]
)
CONNTRACK = _object(
    {"state": _maybe("string"), "zone": COUNT, "orig": TUPLE, "reply": TUPLE, "status": _array(TEXT)},
)
REASON = _object({"code": TEXT, "text": TEXT, "where": _maybe("string")})
AT = _object({"host": _maybe("string"), "interface": _maybe("string"), "hook": _maybe("string")})
STEP = _object(
    {
        "hook": _maybe("string"),
        "stage": TEXT,
        "table": _maybe("string"),
        "family": _maybe("string"),
        "chain": _maybe("string"),
        "rule": _maybe("integer"),
        "handle": _maybe("integer"),
        "text": _maybe("string"),
        "where": _maybe("string"),
        "matched": _maybe("boolean"),
        "verdict": _maybe("string"),
        "changes": {"type": "object", "additionalProperties": {"type": "array", "minItems": 2, "maxItems": 2}},
        "conntrack": _maybe("string"),
        "note": _maybe("string"),
    }
)
HOP = _object(
    {
        "host": TEXT,
        "in": _maybe("string"),
        "out": _maybe("string"),
        "before": {"$ref": "#/$defs/packet"},
        "after": {"anyOf": [{"$ref": "#/$defs/packet"}, {"type": "object", "maxProperties": 0}]},
        "conntrack": {"anyOf": [CONNTRACK, {"type": "null"}]},
        "steps": _array(STEP),
    }
)
RESPONSE = _object(
    {
        "kind": {"enum": ["icmp", "tcp_reset"]},
        "type": _maybe("integer"),
        "code": _maybe("integer"),
        "from": TEXT,
        "to": TEXT,
        "outcome": TEXT,
        "packet": {"type": "object"},
    },
    ["kind", "type", "code", "from", "to", "outcome"],
)
OUTCOME = {"enum": [*OUTCOMES, None]}
POSSIBLE = _object(
    {
        "probability": {"type": ["number", "null"], "minimum": 0, "maximum": 1.000001},
        "outcome": {"enum": OUTCOMES},
        "at": AT,
        "packet": {"$ref": "#/$defs/packet"},
        "responses": _array(RESPONSE),
        "copies": _array({"type": "object"}),
    },
    ["probability", "outcome", "at", "packet"],
)


def _result(schema_id: str) -> Schema:
    return _object(
        {
            "schema": {"const": schema_id},
            "outcome": OUTCOME,
            "certainty": {"enum": ["exact", "one_of", "unknown"]},
            "at": {"anyOf": [AT, {"type": "null"}]},
            "packet": {"anyOf": [{"$ref": "#/$defs/packet"}, {"type": "null"}]},
            "errno": _maybe("integer"),
            "reason": REASON,
            "hops": _array(HOP),
            "responses": _array(RESPONSE),
            "outcomes": _array(POSSIBLE),
            "assumptions": _array(TEXT),
        }
    )


def _with_defs(schema: Schema, name: str) -> Schema:
    return {"$schema": DIALECT, "title": name, **schema, "$defs": {"packet": PACKET}}


def _lab_run() -> Schema:
    """What the kernel said of a fix, before and after, in namespaces."""
    end = _object({"outcome": OUTCOME, "text": TEXT})
    side = _object({"forward": end, "reply": {"anyOf": [end, {"type": "null"}]}, "works": BOOL})
    return _object({"before": side, "after": side, "agrees": BOOL, "notes": _array(TEXT)})


def why() -> Schema:
    """``why --json``."""
    schema = _result("nattrace/why/1")
    fix = _object(
        {
            "host": _maybe("string"),
            "commands": _array(TEXT),
            "result": {"enum": ["works", "forward_only", "fails"]},
            "text": TEXT,
            "forward": OUTCOME,
            "reply": OUTCOME,
            "side_effects": _array(TEXT),
            "flows_sampled": COUNT,
            "steps": _array(_object({"host": TEXT, "command": TEXT})),
            "also_cured": COUNT,
            "persistent": _array(TEXT),
            "rollback": _array(_object({"host": TEXT, "script": TEXT})),
            "lab": {"anyOf": [{"type": "null"}, _lab_run()]},
        },
        [
            "host",
            "commands",
            "result",
            "text",
            "forward",
            "reply",
            "side_effects",
            "flows_sampled",
            "steps",
            "also_cured",
        ],
    )
    more = {
        "verdict": TEXT,
        "unread_rules": COUNT,
        "question": _object(
            {
                "text": TEXT,
                "flow": TEXT,
                "host": TEXT,
                "in": _maybe("string"),
                "proto": TEXT,
                "src": _maybe("string"),
                "dst": TEXT,
                "sport": PORT,
                "derived": _array(TEXT),
            },
            ["text", "host", "in", "proto", "src", "dst", "derived"],
        ),
        "reply": {"anyOf": [_result("nattrace/why/1"), {"type": "null"}]},
        "diagnosis": _array(_object({"code": TEXT, "text": TEXT, "evidence": _array(TEXT)})),
        "fixes": _array(fix),
        "captures": _array(
            _object(
                {
                    "host": TEXT,
                    "interface": TEXT,
                    "way": {"enum": ["in", "out"]},
                    "phase": {"enum": ["forward", "reply"]},
                    "packet": {"$ref": "#/$defs/packet"},
                }
            )
        ),
    }
    optional = {
        "expect": _array(
            _object(
                {
                    "text": TEXT,
                    "met": _maybe("boolean"),
                    "why": TEXT,
                    "differs": {
                        "anyOf": [
                            _object({"host": TEXT, "step": _maybe("integer"), "actual": TEXT, "expected": TEXT}),
                            {"type": "null"},
                        ]
                    },
                },
                ["text", "met", "why"],
            )
        ),
        "symptom": _object(
            {
                "text": TEXT,
                "symptom": TEXT,
                "explained": BOOL,
                "hypotheses": _array(_object({"code": TEXT, "explains": BOOL, "text": TEXT, "tested": TEXT})),
            }
        ),
        "stale_entries": _array(
            _object(
                {
                    "host": TEXT,
                    "entry": TEXT,
                    "old": TEXT,
                    "new": TEXT,
                    "command": TEXT,
                    "other_entries_hit": COUNT,
                    "wider_command": TEXT,
                    "wider_hits": COUNT,
                }
            )
        ),
        "what_if": _array(TEXT),
        "before": {"type": "object"},
    }
    schema["properties"] |= more | optional
    schema["required"] += list(more)
    return _with_defs(schema, "nattrace why")


def simulate() -> Schema:
    """One line of ``simulate``."""
    schema = _result("nattrace/simulate/1")
    schema["properties"] |= {"id": {}, "reply": {"anyOf": [_result("nattrace/simulate/1"), {"type": "null"}]}}
    return _with_defs(schema, "nattrace simulate")


def packet() -> Schema:
    """One input line of ``simulate``."""
    number = {"type": ["integer", "null"], "minimum": 0}
    keys = (
        "sport",
        "dport",
        "uid",
        "gid",
        "mark",
        "ttl",
        "tos",
        "len",
        "type",
        "code",
        "icmp_id",
        "seq",
        "tcp_seq",
        "tcp_ack",
        "window",
        "mss",
        "spi",
    )
    properties: Schema = {
        "id": {},
        "host": TEXT,
        "in": _maybe("string"),
        "proto": {"type": ["string", "integer"]},
        "src": _maybe("string"),
        "dst": TEXT,
        "flags": _maybe("string"),
        "at": {"type": "number", "minimum": 0},
        "observed": {"type": "object"},
        "df": BOOL,
        "oif": _maybe("string"),
        "mac": _maybe("string"),
    }
    properties |= dict.fromkeys(keys, number)
    return {"$schema": DIALECT, "title": "a packet of nattrace simulate", **_object(properties, ["dst"])}


def doctor() -> Schema:
    """``doctor --json``."""
    finding = _object(
        {
            "name": TEXT,
            "group": TEXT,
            "state": {"enum": ["yes", "no", "unknown"]},
            "detail": TEXT,
            "use": TEXT,
            "get": TEXT,
            "instead": TEXT,
        }
    )
    return {"$schema": DIALECT, **_object({"schema": {"const": "nattrace/doctor/1"}, "findings": _array(finding)})}


def reasons() -> Schema:
    """``explain --json`` and ``schema --reasons``."""
    entry = _object(
        {
            "code": TEXT,
            "kind": {"enum": ["reason", "diagnosis"]},
            "title": TEXT,
            "meaning": TEXT,
            "shows": TEXT,
            "cure": _array(TEXT),
            "kernel": TEXT,
            "see": _array(TEXT),
        }
    )
    return {"$schema": DIALECT, **_object({"schema": {"const": "nattrace/reasons/1"}, "reasons": _array(entry)})}


def snapshot() -> Schema:
    """``snapshot --json``."""
    body = {
        "schema": {"const": "nattrace/snapshot/1"},
        "target": TEXT,
        "hosts": _array(TEXT),
        "unread": {"type": "object", "additionalProperties": _array(TEXT)},
        "notes": _array(TEXT),
        "seconds": {"type": "number"},
    }
    return {"$schema": DIALECT, **_object(body)}


def lab() -> Schema:
    """``lab up --json``."""
    body = {
        "schema": {"const": "nattrace/lab/1"},
        "lab": TEXT,
        "netns": {"type": "object", "additionalProperties": TEXT},
        "notes": _array(TEXT),
    }
    return {"$schema": DIALECT, **_object(body)}


def labs() -> Schema:
    """``lab list --json``."""
    body = {"schema": {"const": "nattrace/labs/1"}, "labs": _array(_object({"lab": TEXT, "netns": _array(TEXT)}))}
    return {"$schema": DIALECT, **_object(body)}


def trace() -> Schema:
    """One line of ``trace --json``: a story, an event, or the totals."""
    common = {"schema": {"const": "nattrace/trace/1"}}
    header: Schema = {"type": "object", "required": ["proto", "src", "dst"]}
    hop = _object(dict(HOP["properties"]) | {"times_ns": _array(COUNT)})
    why = _object({"code": TEXT, "text": TEXT, "evidence": _array(TEXT), "cure": _array(TEXT)})
    drop = _object({"reason": TEXT, "function": TEXT, "transport": BOOL})
    capture = _object(
        {"host": TEXT, "interface": _maybe("string"), "way": {"enum": ["in", "out"]}, "packet": header, "ts": COUNT}
    )
    story = common | {
        "kind": {"const": "story"},
        "number": COUNT,
        "start_ns": COUNT,
        "outcome": OUTCOME,
        "at": AT,
        "packet": {"type": "object"},
        "reason": REASON,
        "drop": {"anyOf": [drop, {"type": "null"}]},
        "hops": _array(hop),
        "responses": _array(RESPONSE),
        "captures": _array(capture),
        "asides": _array({"type": "object"}),
        "incomplete": _array(TEXT),
        "rules": {"enum": ["nftrace", "nflog", "model", None]},
        "events": COUNT,
    }
    event = common | {
        "kind": {"const": "event"},
        "event": TEXT,
        "number": COUNT,
        "ts_ns": COUNT,
        "host": TEXT,
        "cpu": COUNT,
        "in": _maybe("string"),
        "out": _maybe("string"),
        "packet": header,
        "conntrack": {"anyOf": [CONNTRACK, {"type": "null"}]},
    }
    totals = common | {
        "kind": {"const": "totals"},
        "seen": COUNT,
        "matched": COUNT,
        "untold": COUNT,
        "lost": {"type": "object", "additionalProperties": COUNT},
        "missing": {"type": "object"},
        "unobservable": _array(TEXT),
    }
    explained = {"explanation": {"anyOf": [why, {"type": "null"}]}}
    lines = [_object(story | explained, list(story)), _object(event), _object(totals)]
    return _with_defs({"anyOf": lines}, "nattrace trace")


def view() -> Schema:
    """``view --json``."""
    return {"$schema": DIALECT, **_object({"schema": {"const": "nattrace/view/1"}, "url": TEXT})}


def tour() -> Schema:
    """``tour --json``."""
    keys = ("scenario", "snapshot", "stage", "command", "verdict", "code", "look")
    stop = _object({**dict.fromkeys(keys, TEXT), "next": _array(TEXT)})
    return {"$schema": DIALECT, **_object({"schema": {"const": "nattrace/tour/1"}, "stops": _array(stop)})}


def what() -> Schema:
    """``what --json``."""
    seen = {"type": "object", "required": ["proto", "src", "dst"]}
    way = _object(
        {
            "in": _maybe("string"),
            "any_of": _maybe("string"),
            "before": {"$ref": "#/$defs/packet"},
            "outcome": {"enum": OUTCOMES},
            "at": AT,
            "after": {"$ref": "#/$defs/packet"},
            "reason": REASON,
            "hops": _array(HOP),
        }
    )
    account = {
        "way": {"enum": ["in", "out"]},
        "host": TEXT,
        "interface": TEXT,
        "numbers": _array(COUNT),
        "seen": seen,
        "explained": BOOL,
        "ways": _array(way),
    }
    flow = {"flow": TEXT, "packets": COUNT, "not_followed": COUNT, "accounts": _array(_object(account))}
    sighting = {"anyOf": [_object({"interface": TEXT, "number": COUNT, "packet": seen}), {"type": "null"}]}
    match = {
        "kind": {"enum": ["as_predicted", "otherwise", "vanished", "lost", "unasked"]},
        "before": sighting,
        "after": sighting,
        "predicted": {"type": ["object", "null"]},
        "outcome": OUTCOME,
        "reason": {"anyOf": [REASON, {"type": "null"}]},
    }
    capture: Schema = {
        "schema": {"const": "nattrace/what/1"},
        "capture": TEXT,
        "host": TEXT,
        "interface": TEXT,
        "skipped": COUNT,
        "cut": BOOL,
    }
    more = {"flows": _array(_object(flow)), "after": _object(capture), "matches": _array(_object(match))}
    return _with_defs(_object(capture | more, list(capture)), "nattrace what")


def confirm() -> Schema:
    """``confirm --json``."""
    row = {
        "hop": {"type": "integer"},
        "host": TEXT,
        "hook": _maybe("string"),
        "stage": TEXT,
        "predicted": TEXT,
        "observed": TEXT,
        "verdict": {"enum": ["same", "differs", "not observed"]},
        "key": _maybe("string"),
        "names": _array(TEXT),
        "where": _maybe("string"),
    }
    packet = {
        "number": COUNT,
        "direction": {"enum": ["request", "reply"]},
        "certainty": {"enum": ["exact", "one_of", "unknown"]},
        "note": _maybe("string"),
        "predicted": _maybe("string"),
        "observed": _maybe("string"),
        "incomplete": _array(TEXT),
        "rows": _array(_object(row)),
    }
    count = {
        "host": TEXT,
        "table": TEXT,
        "chain": TEXT,
        "text": TEXT,
        "predicted": COUNT,
        "rose": COUNT,
        "verdict": {"enum": ["same", "differs", "more"]},
    }
    document: Schema = {
        "schema": {"const": "nattrace/confirm/1"},
        "flow": TEXT,
        "verdict": {"enum": ["confirmed", "disagrees", "undecided"]},
        "status": {"enum": [0, 1, 4]},
        "text": TEXT,
        "class": {"enum": [None, "rule_set_changed", "entry_existed", "entry_gone", "mark_from_elsewhere", "bypassed",
                           "other_table", "never_came", "events_lost", "model_wrong"]},
        "how": _maybe("string"),
        "next": _maybe("string"),
        "first": {"anyOf": [_object({"packet": COUNT} | row), {"type": "null"}]},
        "hosts": _array(TEXT),
        "open": _array(TEXT),
        "notes": _array(TEXT),
        "lost": {"type": "object"},
        "rules": {"anyOf": [_array(_object(count)), {"type": "null"}]},
        "packets": _array(_object(packet)),
    }  # fmt: skip
    return _with_defs(_object(document), "nattrace confirm")


def watch() -> Schema:
    """A line of ``watch --json``."""
    example = {"flow": TEXT, "expected": TEXT, "actual": TEXT}
    group = {
        "host": TEXT,
        "what": {"enum": ["verdict", "translation", "zone", "interface", "others"]},
        "where": TEXT,
        "cause": {"enum": ["rule_set_changed", "model_wrong", "unknown"]},
        "count": COUNT,
        "last": {"type": "number"},
        "example": _object(example),
    }
    counts: Schema = {"type": "object", "additionalProperties": COUNT}
    document: Schema = {
        "schema": {"const": "nattrace/watch/1"},
        "kind": {"enum": ["progress", "total"]},
        "seconds": {"type": "number", "minimum": 0},
        "connections": COUNT,
        "rate": {"type": "number", "minimum": 0},
        "agreed": COUNT,
        "agreed_at_second_look": COUNT,
        "disagreed": COUNT,
        "agreement": _maybe("number"),
        "not_checked": counts,
        "disagreements": _array(_object(group)),
        "lost": counts,
        "renewals": COUNT,
    }
    return _with_defs(_object(document), "nattrace watch")


SCHEMAS = {
    "why": why,
    "simulate": simulate,
    "packet": packet,
    "doctor": doctor,
    "reasons": reasons,
    "what": what,
    "view": view,
    "tour": tour,
    "trace": trace,
    "confirm": confirm,
    "watch": watch,
    "snapshot": snapshot,
    "lab": lab,
    "labs": labs,
}
