"""The kernel's observation against the simulator's result: outcome, place, headers, answers, counters, conntrack."""

from __future__ import annotations

from typing import Any

from nattrace.tracer.lab.packets import number_of

from .kernel import ARRIVALS, Final, Observation

FIELDS = ("proto", "src", "dst", "sport", "dport", "ttl", "tos", "len", "df", "flags", "tcp_seq", "tcp_ack", "window", "mss",
          "type", "code", "icmp_id", "seq", "mtu", "gateway", "spi")  # fmt: skip
INNER = ("proto", "src", "dst", "sport", "dport", "ttl", "tos", "len", "type", "code", "icmp_id")
GONE = ("dropped", "rejected", "unreachable", "never_sent", "queued", "stolen", "looped")


def same(wanted: Any, actual: Any) -> bool:
    """A predicted value (or the candidates of a drawn one) against the real one."""
    if isinstance(wanted, dict) and "ranges" in wanted:
        if not isinstance(actual, int) or actual in wanted.get("except", ()):
            return False
        return any(lo <= actual <= hi for lo, hi in wanted["ranges"])
    return wanted == actual


def packet_diff(predicted: dict[str, Any], real: dict[str, Any], fields: tuple[str, ...] = FIELDS) -> list[str]:
    """Fields in which a packet differs, as ``name: predicted X, kernel Y``."""
    out = []
    for name in fields:
        if name not in predicted or name not in real:
            continue
        if name == "proto":
            if number_of(predicted[name]) != number_of(real[name]):
                out.append(f"proto: predicted {predicted[name]}, kernel {real[name]}")
        elif not same(predicted[name], real[name]):
            out.append(f"{name}: predicted {predicted[name]}, kernel {real[name]}")
    if fields is FIELDS and "inner" in predicted and "inner" in real:
        out += [f"inner.{d}" for d in packet_diff(predicted["inner"], real["inner"], INNER)]
    elif fields is FIELDS and ("inner" in predicted) != ("inner" in real):
        out.append("inner: predicted " + ("one, kernel none" if "inner" in predicted else "none, kernel one"))
    return out


def predicted_finals(outcome: dict[str, Any], result: dict[str, Any], answers: bool = True) -> list[Final]:
    """What the simulator says is to be seen: the packet itself, answers, copies."""
    out = _final(outcome, True)
    if answers:
        for response in result.get("responses", ()):
            out += _final(response, False)
        for copy in result.get("copies", ()):
            out += _final(copy, False)
    return out


def _final(part: dict[str, Any], main: bool) -> list[Final]:
    at, packet = part.get("at") or {}, part.get("packet") or {}
    if part.get("outcome") == "left":
        return [Final("left", at.get("host"), at.get("interface"), packet, main)]
    if part.get("outcome") == "delivered" and number_of(packet.get("proto", 1)) in ARRIVALS:
        return [Final("arrived", at.get("host"), at.get("interface") or "", packet, main)]
    return []


def merge_fragments(finals: list[Final]) -> list[Final]:
    """Fragments of one datagram at one place become that datagram."""
    out: list[Final] = []
    groups: dict[Any, Final] = {}
    for final in finals:
        packet = final.packet
        if packet.get("frag") is None:
            out.append(final)
            continue
        key = (final.kind, final.host, final.dev, packet["ip_id"], packet["src"], packet["dst"], packet["proto"])
        whole = groups.get(key)
        if whole is None:
            whole = groups[key] = Final(final.kind, final.host, final.dev, {"len": 20}, final.main)
            out.append(whole)
        end = packet["frag"] + packet["len"]
        length = max(whole.packet["len"], end)
        if packet["frag"] == 0:
            whole.packet = {k: v for k, v in packet.items() if k not in ("frag", "mf")}
        whole.packet["len"] = length
    return out


def match_finals(predicted: list[Final], real: list[Final]) -> list[str]:
    """Differences between two multisets of ends; empty when they agree."""
    left = list(real)
    missing: list[tuple[Final, list[str]]] = []
    for want in predicted:
        best: tuple[Final | None, list[str]] = (None, [])
        for have in left:
            place = (
                have.kind == want.kind and have.host == want.host and (want.kind == "arrived" or have.dev == want.dev)
            )
            diff = packet_diff(want.packet, have.packet) if place else ["place"]
            if not diff:
                best = (have, [])
                break
            if place and (best[0] is None or len(diff) < len(best[1])):
                best = (have, diff)
        if best[0] is not None and not best[1]:
            left.remove(best[0])
        else:
            missing.append((want, best[1]))
    out = []
    for want, diff in missing:
        near = next(
            (
                h
                for h in left
                if h.kind == want.kind and h.host == want.host and (want.kind == "arrived" or h.dev == want.dev)
            ),
            None,
        )
        if near is not None and diff:
            left.remove(near)
            out.append(f"{'packet' if want.main else 'answer'} {want.kind} {want.host}:{want.dev} " + "; ".join(diff))
        else:
            out.append(f"{'packet' if want.main else 'answer'} predicted {show(want)}, not seen")
    out += [f"{'packet' if have.main else 'answer'} not predicted: {show(have)}" for have in left]
    return out


def show(final: Final) -> str:
    """One line about an end."""
    p = final.packet
    ports = (
        f" {p.get('sport')}→{p.get('dport')}"
        if "sport" in p
        else f" type {p.get('type')}/{p.get('code')}"
        if "type" in p
        else ""
    )
    addresses = f"{p.get('src')}→{p.get('dst')}"
    return f"{final.kind} {final.host}:{final.dev} {p.get('proto')} {addresses}{ports} {p.get('flags', '')}".strip()


def compare(observation: Observation, result: dict[str, Any]) -> list[str]:
    """Differences for one packet. A result with several outcomes is right when one of them is what happened."""
    real = merge_fragments(observation.finals)
    outcomes = result.get("outcomes") or [result]
    if len(outcomes) == 1:
        diffs = match_finals(predicted_finals({**result, **outcomes[0]}, result), real)
        return diffs + errno_diff(observation, result)
    tried = [match_finals(predicted_finals(o, {**result, **o}), real) for o in outcomes]
    return [] if not all(tried) else [f"none of {len(outcomes)} outcomes: " + "; ".join(min(tried, key=len))]


def errno_diff(observation: Observation, result: dict[str, Any]) -> list[str]:
    """The local sender's errno; TCP's connect() hides what happens to its SYN."""
    record = observation.record or {}
    if record.get("in") is not None:
        return []
    predicted = result.get("errno")
    if predicted == observation.errno:
        return []
    if record.get("proto") == "tcp" and observation.errno is None and result.get("outcome") != "never_sent":
        return []
    if observation.errno is None and result.get("outcome") == "unreachable":
        return []  # told later, by an ICMP error on the socket
    return [f"errno: predicted {predicted}, kernel {observation.errno}"]


def observed_of(observation: Observation, result: dict[str, Any]) -> dict[str, Any]:
    """What to pin: where the packet ended and with which drawn values."""
    mains = [f for f in merge_fragments(observation.finals) if f.main]
    if not mains:
        gone = [o["outcome"] for o in result.get("outcomes", ()) if o["outcome"] in GONE]
        return {"outcome": gone[0]} if len(gone) == 1 else {}  # several: the counters tell (runner.keep_fitting)
    ends = [predicted_finals(o, result, answers=False) for o in result.get("outcomes", ())]
    final = next((f for f in mains if any(not match_finals(end, [f]) for end in ends)), mains[-1])
    out: dict[str, Any] = {"outcome": "left" if final.kind == "left" else "delivered", "host": final.host}
    if final.kind == "left":
        out["interface"] = final.dev
    ways = {o["at"]["interface"] for o in result.get("outcomes", ()) if o["outcome"] == "delivered"}
    if final.kind == "arrived" and len(ways) > 1 and final.dev in ways:
        out["interface"] = final.dev
    for key in ("src", "dst", "sport", "dport", "icmp_id"):
        if key in final.packet:
            out[key] = final.packet[key]
    return out


def counters_diff(
    kernel: dict[tuple[str, str, str, int], tuple[int, int]], simulated: dict[Any, tuple[int, int]]
) -> list[str]:
    """Rule counters since the start, both in packets and bytes; policies are left to the chains' own rules."""
    one_backend = len({k[0] for k in kernel}) <= 1
    mine: dict[Any, tuple[int, int]] = {}
    for rule, value in simulated.items():
        backend = "" if one_backend else {"iptables": "nft"}.get(rule.backend, rule.backend)
        mine[backend, rule.table, rule.chain, rule.index] = value
    out = []
    for (backend, table, chain, index), value in kernel.items():
        if index == 0:
            continue
        predicted = mine.pop(("" if one_backend else backend, table, chain, index), (0, 0))
        if predicted != value:
            out.append(f"counter {table}:{chain}:{index}: predicted {list(predicted)}, kernel {list(value)}")
    out += [
        f"counter {k[1]}:{k[2]}:{k[3]}: predicted {list(v)}, kernel has no such rule"
        for k, v in mine.items()
        if k[3] and any(v)
    ]
    return out


# -------------------------------------------------------------------------------------------- conntrack


def entry_key(entry: dict[str, Any]) -> tuple[Any, ...]:
    """A parsed line of ``conntrack -L`` as a comparable tuple."""
    sides = []
    for side in (entry["orig"], entry["reply"]):
        if "type" in side:
            ports = (int(side["id"]), int(side["type"]) << 8 | int(side["code"]))
        elif "srckey" in side:
            ports = (int(side["srckey"], 16), int(side["dstkey"], 16))
        else:
            ports = (int(side.get("sport", 0)), int(side.get("dport", 0)))
        sides.append((side["src"], side["dst"], *ports))
    both = int(entry.get("zone", 0))
    zones = (int(entry.get("zone-orig", both)), int(entry.get("zone-reply", both)))
    flags = tuple(sorted(f for f in entry["flags"] if f in ("ASSURED", "UNREPLIED")))
    return (entry["proto"], sides[0], sides[1], zones, int(entry.get("mark", 0)), flags, entry["state"])


def conn_key(conn: Any, known: Any) -> tuple[Any, ...]:
    """The same tuple from the simulator's entry."""
    from nattrace.sim.model.addr import format_addr

    sides = []
    for side in conn.tuples:
        ports = [p if isinstance(p, int) else None for p in (known(side.sport), known(side.dport))]  # None: still drawn
        sides.append((format_addr(side.family, side.src), format_addr(side.family, side.dst), *ports))
    flags = []
    if conn.status & 4:
        flags.append("ASSURED")
    if not conn.status & 2:
        flags.append("UNREPLIED")
    name = getattr(conn.proto_state, "name", None)
    return (conn.tuples[0].proto, sides[0], sides[1], tuple(conn.zones), conn.mark, tuple(sorted(flags)), name)


def agrees(predicted: Any, real: Any) -> bool:
    """Equal but for what the simulator leaves open: a port that nobody saw, the state of a stateless protocol."""
    if isinstance(predicted, tuple) and isinstance(real, tuple):
        return len(predicted) == len(real) and all(map(agrees, predicted, real))
    return predicted is None or predicted == real


def _open_places(key: Any) -> int:
    """How much of a predicted key is still open: what is known best finds its entry first."""
    return sum(map(_open_places, key)) if isinstance(key, tuple) else int(key is None)


def conntrack_diff(kernel: list[dict[str, Any]], conns: list[Any], known: Any, now: float) -> list[str]:
    """Entries that only one side has, states and timeouts that differ. ``now``: seconds since the first packet."""
    wanted = []  # a list: entries that differ in drawn ports only have equal keys
    for conn in conns:
        if conn.timeout_at is None or conn.timeout_at > now + 0.3:
            wanted.append((conn_key(conn, known), conn))
    wanted.sort(key=lambda pair: _open_places(pair[0]))
    out = []
    for entry in kernel:
        key = entry_key(entry)
        found = next((i for i, (k, _) in enumerate(wanted) if agrees(k, key)), None)
        conn = wanted.pop(found)[1] if found is not None else None
        if conn is None:
            if entry["timeout"] <= 1:
                continue
            place = next(
                (i for i, (k, _) in enumerate(wanted) if k[1] == key[1] and k[0] == key[0] and k[3] == key[3]), None
            )
            if place is not None:
                twin = wanted.pop(place)[0]
                names = ("proto", "orig", "reply", "zones", "mark", "flags", "state")
                out.append(
                    "conntrack: "
                    + "; ".join(
                        f"{n}: predicted {a}, kernel {b}" for n, a, b in zip(names, twin, key, strict=True) if a != b
                    )
                )
            else:
                out.append(f"conntrack: not predicted: {entry['line']}")
        elif conn.timeout_at is not None and abs(conn.timeout_at - now - entry["timeout"]) > 2.5:
            out.append(
                f"conntrack timeout: predicted {conn.timeout_at - now:.1f}, kernel {entry['timeout']}: {entry['line']}"
            )
    return out + [f"conntrack: predicted, not there: {key}" for key, _ in wanted]
