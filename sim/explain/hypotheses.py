"""What each symptom can come from: a variant of the flow is played, and what came out is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..flow import Question
from ..model.addr import format_addr
from ..model.result import Leaf
from ..model.world import Host
from ..record import replace
from .dialogue import FULL, Dialogue
from .parts import Diagnosis
from .sample import OUTSIDER
from .silence import expires, fails_already
from .stale import stale_entries
from .symptoms import Hypothesis
from .trial import FORWARD, REPLY, Trial, attempt
from .whatif import ConntrackFlush, apply_all

SILENT = {"dropped", "never_sent", "looped"}
TOLD = {"rejected", "unreachable"}

Found = list[Diagnosis]


def _variant(trial: Trial, **changes: Any) -> Trial:
    """The same question with another packet (None: without that key)."""
    packet = {k: v for k, v in (trial.question.packet | changes).items() if v is not None}
    sport = None if "sport" in packet or packet["proto"] not in ("tcp", "udp") else (32768, 60999)
    return attempt(trial.world, replace(trial.question, packet=packet, sport_range=sport))


def _end(trial: Trial) -> str:
    """How a trial ends, in a clause."""
    if trial.obstacle is not None:
        return trial.obstacle.text
    leaf = trial.leaf
    return f"{leaf.outcome} at {leaf.at.get('host')}" + (", and its reply comes back" if trial.back is not None else "")


def _cause(trial: Trial, found: Found) -> tuple[str, str]:
    """Code and text of what was diagnosed, else of the obstacle."""
    assert trial.obstacle is not None
    if found and "{" not in found[0].text:
        return found[0].code, found[0].text
    return (found[0].code if found else trial.obstacle.code), trial.obstacle.text


# ---------------------------------------------------------------------------------------------- no reply


def _lost_there(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    o, leaf = trial.obstacle, trial.leaf
    lost = (
        o is not None
        and o.phase == FORWARD
        and leaf.outcome in SILENT | {"left", "delivered"}
        and o.code != "no_listener"
    )
    code, text = _cause(trial, found) if lost else (leaf.reason.code, "the request gets through")
    text = f"the request never arrives, and nobody says so: {text}" if lost and leaf.outcome in SILENT else text
    yield Hypothesis(code, lost, text, f"the request: {_end(trial)}")


def _lost_back(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    o = trial.obstacle
    lost = o is not None and o.phase == REPLY
    if o is not None and o.phase == FORWARD:
        return
    code, text = _cause(trial, found) if lost else ("no_return_route", "the reply comes back")
    yield Hypothesis(
        code, lost, f"the request arrives, the reply is lost: {text}" if lost else text, f"the reply: {_end(trial)}"
    )


def _told(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    """Refused aloud, but the sender does not hear it."""
    leaf = trial.leaf
    if leaf.outcome not in TOLD and leaf.reason.code != "no_listener":
        return
    heard = [r for r in leaf.responses if r.type != 5 and r.outcome in ("delivered", "left")]
    kind = "a reset" if any(r.kind == "tcp_reset" for r in leaf.responses) else "an ICMP error"
    if heard:
        text = f"the sender is told ({kind} from {heard[0].sender}): it reports an error at once, it does not wait for a reply"
        is_ping = trial.question.packet["proto"] in ("icmp", "udp")
        yield Hypothesis(
            leaf.reason.code, is_ping or leaf.outcome == "unreachable", f"{leaf.reason.text}; {text}", _said(leaf)
        )
    else:
        yield Hypothesis(
            leaf.reason.code, True, f"{leaf.reason.text}; {kind} that says so does not reach the sender", _said(leaf)
        )


def _said(leaf: Leaf) -> str:
    shown = [
        f"{r.sender} sends {'a reset' if r.kind == 'tcp_reset' else f'ICMP {r.type}/{r.code}'}: {r.outcome}"
        for r in leaf.responses
    ]
    return "; ".join(shown) or "nothing is sent back"


def _stale(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    full = trial.obstacle is not None and trial.obstacle.code == "conntrack_full"  # it is not one entry then
    if full or not any(host.conns for host in trial.world.hosts.values()):
        return
    flushed = apply_all(trial.world, [ConntrackFlush(name) for name in trial.world.hosts])
    without = attempt(flushed, trial.question)
    cured = trial.obstacle is not None and without.ok
    tested = f"without the entries of the snapshot: {_end(without)}"
    old = stale_entries(trial)
    if cured and old:
        one = old[0]
        text = f"an entry on {one.host} ({one.conn.where}) keeps an old translation; {one.edit.commands()[0]}"
        yield Hypothesis("stale_entry", True, text, tested)
    elif cured:
        yield Hypothesis("existing_entry", True, "a connection entry of the snapshot is in the way", tested)
    else:
        yield Hypothesis("stale_entry", False, "old connection entries make no difference", tested)


def _full_size(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    """Small packets pass, full-size ones do not."""
    if trial.obstacle is not None or trial.question.packet["proto"] not in ("tcp", "udp", "icmp"):
        return
    talk = _dialogue(trial)
    if talk is None:
        return
    for who, say in (("from the client", talk.client), ("from the server", talk.server)):
        said = say(length=_size(trial, who), df=True)
        if not said.arrived:
            told = [r for r in said.leaf.responses if r.type == 3 and r.code == 4]
            heard = any(r.outcome in ("delivered", "left") for r in told)
            text = f"small packets pass, full-size ones {who} do not: {said.leaf.reason.text}"
            text += "" if not told or heard else "; the ICMP error that tells the sender is lost: it never learns"
            size = _size(trial, who)
            cure = _variant(trial, len=size, df=True, flags="A") if who == "from the client" else None
            yield Hypothesis("fragmentation_needed", True, text, f"{size} bytes with DF {who}: {said.fate}", cure)
            return
    yield Hypothesis(
        "fragmentation_needed",
        False,
        "full-size packets pass both ways",
        f"{FULL} bytes with DF from either end arrive",
    )


def _size(trial: Trial, who: str) -> int:
    """The mtu of the end that sends, where the snapshot has it."""
    asked = trial.asked if who == "from the client" else trial.reply_asked
    assert asked is not None
    host = trial.world.hosts[asked.host]
    hops = trial.leaf.hops if who == "from the client" else (trial.back.hops if trial.back is not None else [])
    dev = asked.in_dev or (hops[0].out_dev if hops else None)
    link = host.links.get(dev or "")
    own = link.mtu if link is not None and asked.in_dev is None else FULL
    return min(own or FULL, FULL)


def _dialogue(trial: Trial) -> Dialogue | None:
    return Dialogue(trial) if trial.back is not None and trial.reply_asked is not None else None


# -------------------------------------------------------------------------------------------- refused


def _refused(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    """A reset or port unreachable comes back, and from whom."""
    leaf = trial.leaf
    refusals = [r for r in leaf.responses if r.kind == "tcp_reset" or (r.type == 3 and r.code in (2, 3))]
    if leaf.reason.code == "no_listener":
        code, text = _cause(trial, found)
        host = leaf.at.get("host")
        asked = trial.question.packet
        if leaf.packet.get("dst") != asked["dst"] or leaf.packet.get("dport") != asked.get("dport"):
            text = f"{text} (translated to {leaf.packet.get('dst')}:{leaf.packet.get('dport')} on the way)"
        yield Hypothesis(code, True, f"{host} itself refuses: {text}", _said(leaf))
    elif leaf.outcome == "rejected":
        aloud = bool(refusals)
        text = f"a rule refuses: {leaf.reason.text}"
        yield Hypothesis("rejected_by_rule", aloud, text, _said(leaf))
    elif trial.obstacle is not None:
        text = f"nobody refuses: {trial.obstacle.text}; that shows as a time-out"
        yield Hypothesis(trial.obstacle.code, False, text, _said(leaf))
    else:
        yield Hypothesis("no_listener", False, "somebody listens, and no rule refuses", f"the request: {_end(trial)}")


def _listens_elsewhere(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    """The service exists at another address or port of the host that refuses."""
    leaf = trial.leaf
    if leaf.reason.code != "no_listener":
        return
    host = trial.world.hosts[str(leaf.at.get("host"))]
    port, proto = leaf.packet.get("dport"), leaf.arrival[1].proto
    for socket in host.sockets or ():
        if (
            socket.proto == proto
            and socket.lport == port
            and socket.local is not None
            and socket.state in ("LISTEN", "UNCONN")
        ):
            address = format_addr(socket.family, socket.local)
            if address != leaf.packet.get("dst"):
                near = _ask_locally(trial, host.name, address)
                text = f"{socket.process or 'the service'} listens on {address}:{port} only, not on {leaf.packet.get('dst')}"
                yield Hypothesis(
                    "listener_bound_elsewhere", True, text, f"from {host.name} itself to {address}: {_end(near)}", near
                )


def _ask_locally(trial: Trial, host: str, dst: str) -> Trial:
    keys = {k: v for k, v in trial.question.packet.items() if k in ("proto", "dport")}
    question = Question("", host, None, {**keys, "dst": dst, "sport": 41000})
    return attempt(trial.world, question)


# -------------------------------------------------------------------------------------------- hairpin


def _from_outside(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    """The same destination asked for from the other side of its owner: does it work there, and what is other inside?"""
    dst = trial.question.packet["dst"]
    owner = _owner(trial, dst)
    if owner is None:
        yield Hypothesis(
            "reply_bypasses_nat", False, f"no host of the snapshot has {dst}", "nobody outside could ask for it"
        )
        return
    dev = next(a.dev for a in owner.addresses if format_addr(a.family, a.local) == dst)
    outside = _outsider(trial, owner.name, dev)
    if not outside.ok:
        text = f"from outside it does not work either: {outside.obstacle.text if outside.obstacle else ''}"
        yield Hypothesis(
            "reply_bypasses_nat", False, text, f"{OUTSIDER} → {dst} in {dev} of {owner.name}: {_end(outside)}"
        )
        return
    tested = f"{OUTSIDER} → {dst} in {dev} of {owner.name} works; from inside: {_end(trial)}"
    if trial.obstacle is None:
        yield Hypothesis("reply_bypasses_nat", False, "from inside it works too", tested)
        return
    there = outside.leaf.packet.get("dst")
    here = trial.leaf.packet.get("dst")
    code, text = _cause(trial, found)
    if there != dst and here == dst:
        text = f"outside the destination becomes {there}, inside no rule changes it (what does it ask for?); {text}"
        yield Hypothesis("criterion_failed" if code == "no_listener" else code, True, text, tested)
    elif trial.obstacle.phase == REPLY:
        text = f"the answer of {there} goes straight to the client, past the translation: {trial.obstacle.text}"
        yield Hypothesis("reply_bypasses_nat", True, text, tested)
    else:
        yield Hypothesis(code, True, text, tested)


def _owner(trial: Trial, dst: str) -> Host | None:
    """The host that has the address."""
    for host in trial.world.hosts.values():
        if any(format_addr(a.family, a.local) == dst and a.dev != "lo" for a in host.addresses):
            return host
    return None


def _outsider(trial: Trial, host: str, dev: str) -> Trial:
    packet = {k: v for k, v in trial.question.packet.items() if k in ("proto", "dst", "dport", "icmp_id", "flags")}
    packet["src"] = OUTSIDER
    if packet["proto"] in ("tcp", "udp"):
        packet["sport"] = 41000
    return attempt(trial.world, Question("", host, dev, packet))


# ---------------------------------------------------------------------------------- ping works, tcp not


def _ping_too(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    """The same way as a ping and as TCP: where they part."""
    packet = trial.question.packet
    tcp = (
        trial
        if packet["proto"] == "tcp"
        else _variant(trial, proto="tcp", dport=443, type=None, code=None, icmp_id=None, seq=None, len=None)
    )
    ping = _variant(trial, proto="icmp", dport=None, sport=None, flags=None, icmp_id=4711, len=None, mss=None) \
        if packet["proto"] != "icmp" else trial  # fmt: skip
    tested = f"ping: {_end(ping)}; tcp {tcp.question.packet['dport']}: {_end(tcp)}"
    if tcp.obstacle is not None and ping.obstacle is None:
        code, text = _cause(tcp, found if tcp is trial else [])
        yield Hypothesis(code, True, f"a ping passes and TCP does not: {text}", tested, None if tcp is trial else tcp)
    elif tcp.obstacle is not None:
        text = f"a ping between these ends does not pass either (from elsewhere it may): {tcp.obstacle.text}"
        yield Hypothesis(tcp.obstacle.code, False, text, tested)
    else:
        yield Hypothesis("criterion_failed", False, "the connection is made like a ping", tested)
        yield from _full_size(tcp, found)
        yield from _state(tcp, found)


def _state(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    """The handshake's later packets: asymmetric ways and INVALID show only there."""
    talk = _dialogue(trial)
    if talk is None:
        return
    for who, say in (
        ("the client's ACK", talk.client),
        ("the server's data", talk.server),
        ("the client's data", talk.client),
    ):
        said = say()
        if not said.arrived:
            yield Hypothesis(
                "conntrack_invalid", True, f"{who} after the handshake is lost: {said.fate}", f"{who}: {said.fate}"
            )
            return
    yield Hypothesis(
        "conntrack_invalid", False, "packets after the handshake pass both ways", "ACK, data from either end arrive"
    )


# -------------------------------------------------------------------------------- only the first packet


def _second(trial: Trial, found: Found) -> Iterator[Hypothesis]:
    """The packet after the first exchange, in either direction."""
    if trial.obstacle is not None:
        text = f"the first exchange is not completed: {trial.obstacle.text}"
        back = trial.obstacle.phase == REPLY
        yield Hypothesis(trial.obstacle.code, back, text, f"the first packet and its reply: {_end(trial)}")
        return
    talk = _dialogue(trial)
    if talk is None:
        return
    for who, say in (("client", talk.client), ("server", talk.server)):
        said = say()
        if not said.arrived:
            code = said.leaf.reason.code
            yield Hypothesis(
                code,
                True,
                f"the second packet of the {who} does not arrive: {said.fate}",
                f"a second packet of the {who}",
            )
            return
    rules = [s for h in trial.leaf.hops for s in h.steps if s.table == "nat" and s.rule and s.matched]
    if rules:
        name = f"nat {rules[0].chain} {rules[0].rule}"
        text = f"{name} sees the first packet of a connection only, by design: the others follow the entry; it counts connections"
        yield Hypothesis("existing_entry", True, text, "a second packet of either end is translated alike and arrives")
    else:
        yield Hypothesis(
            "existing_entry", False, "later packets fare like the first", "a second packet of either end arrives"
        )


TESTS: dict[str, tuple[Callable[[Trial, Found], Iterator[Hypothesis]], ...]] = {
    "no reply": (_lost_there, _told, _lost_back, _stale, _full_size),
    "connection refused": (_listens_elsewhere, _refused, _stale),
    "works from outside, not from inside": (_from_outside,),
    "works for a minute": (fails_already, expires, _stale),
    "ping works, tcp does not": (_ping_too,),
    "only the first packet": (_second, _stale),
}
