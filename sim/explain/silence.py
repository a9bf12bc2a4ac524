""" "Works for a minute": how long a connection's entry outlives silence, and whether a longer timeout would help.

Packets are sent after pauses a little longer than the kernel's timeouts (nf_conntrack_proto_*.c), from either end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import NattraceError
from .dialogue import Dialogue, Said
from .parts import WORKS, Diagnosis
from .symptoms import Hypothesis
from .trial import Trial, attempt
from .whatif import Edit, SetSysctl, apply_all

PAUSES = (35, 65, 125, 185, 305, 610, 3700, 7300, 86400 + 60, 5 * 86400 + 60)
LONG = 3 * 3600  # seconds of silence beyond which nobody says "a minute", or "a while"

Found = list[Diagnosis]


def fails_already(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    if trial.obstacle is not None:
        text = f"it does not work at all: {trial.obstacle.text}"
        before = any(h.conns for h in trial.world.hosts.values())
        if before:
            text += "; what still worked were connections made before"
        yield Hypothesis(trial.obstacle.code, before, text, f"a new connection: {trial.obstacle.text}")


def expires(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    """After a silence the entry is gone, and a packet of the server, or the next one of the client, finds none."""
    if trial.obstacle is not None or trial.back is None:
        return
    for who in ("server", "client"):
        pause, said = _first_loss(trial, who)
        if said is None:
            continue
        if pause > LONG:
            text = f"the entry outlives {_span(_shortest(trial))} of silence"
            yield Hypothesis("entry_expired", False, text, f"the {who}'s next packet after {_span(pause)}: {said.fate}")
            return
        seconds = _shortest(trial)
        name = _setting_of(trial)
        text = f"the entry lives for {seconds} s of silence; then a packet of the {who} meets none: {said.leaf.reason.text}"
        if said.leaf.outcome in ("left", "delivered"):
            text = f"the entry lives for {seconds} s of silence; then a packet of the {who} is not translated back: {said.fate}"
        fixes = _longer(trial, name, pause, who)
        yield Hypothesis(
            "entry_expired", True, text, f"the {who}'s next packet after {pause} s: {said.fate}", None, fixes
        )
        return
    yield Hypothesis(
        "entry_expired",
        False,
        "packets after any silence get through",
        f"pauses up to {_span(PAUSES[-1])}, either way",
    )


def _span(seconds: int) -> str:
    """Seconds in the largest unit that fits well."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _first_loss(trial: Trial, who: str) -> tuple[int, Said | None]:
    for pause in PAUSES:
        talk = Dialogue(trial)
        said = getattr(talk, who)(pause=pause)
        if not said.arrived:
            return pause, said
    return 0, None


def _entry(trial: Trial) -> tuple[str, Any]:
    """(host, entry) with the shortest life of those that the exchange made."""
    assert trial.back is not None
    talk = Dialogue(trial)
    found = []
    for hop in trial.leaf.hops:
        conn = talk.state.host(hop.host).ct.get((hop.conntrack or {}).get("id"))
        if conn is not None and conn.timeout_at is not None:
            found.append((conn.timeout_at - talk.state.now, hop.host, conn))
    _, host, conn = min(found, key=lambda f: f[0])
    return host, conn


def _shortest(trial: Trial) -> int:
    _, conn = _entry(trial)
    return round(conn.timeout_at - trial.leaf.state.now)


def _setting_of(trial: Trial) -> str:
    proto = trial.question.packet["proto"]
    key = {"tcp": "tcp_timeout_established", "udp": "udp_timeout_stream", "icmp": "icmp_timeout"}.get(
        proto, "generic_timeout"
    )
    host, conn = _entry(trial)
    setting = trial.world.hosts[host].sysctl.get("net.netfilter.nf_conntrack_udp_timeout")
    first = round(conn.timeout_at - trial.leaf.state.now)
    if proto == "udp" and first <= int(setting.value if setting is not None else 30):
        key = "udp_timeout"
    return f"net.netfilter.nf_conntrack_{key}"


def _longer(trial: Trial, name: str, pause: int, who: str) -> tuple[Any, ...]:
    """A longer timeout, tried: the same silence, and the packet arrives."""
    from .fixes import Fix

    host, _ = _entry(trial)
    edits: tuple[Edit, ...] = (SetSysctl(host, name, str(max(2 * pause, 300))),)
    try:
        again = attempt(apply_all(trial.world, edits), trial.question)
    except NattraceError:
        return ()
    if again.back is None:
        return ()
    talk = Dialogue(again)
    said = getattr(talk, who)(pause=pause)
    if not said.arrived:
        return ()
    text = f"after {pause} s of silence the packet of the {who} still arrives (or let the program send keepalives more often)"
    return (Fix(edits, again, WORKS, text),)


__all__ = ["expires", "fails_already"]
