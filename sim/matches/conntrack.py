"""``-m conntrack``: everything about the packet's entry. net/netfilter/xt_conntrack.c conntrack_mt().

Without an entry only --ctstate can hold; the other criteria fail then, negated or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..model.addr import AF_INET, format_addr
from ..model.conntrack import (
    CTINFO_NAME,
    DIR_NAME,
    IP_CT_UNTRACKED,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_EXPECTED,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    STATUS_NAME,
    Conn,
    ctinfo2dir,
)
from ..model.packet import PROTO_NUMBER
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U8, entry, network, number, opt, ports, show_network, show_number, show_span, span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

# XT_CONNTRACK_STATE_* in the order in which iptables prints them
STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
STATUSES = {
    "EXPECTED": IPS_EXPECTED, "SEEN_REPLY": IPS_SEEN_REPLY, "ASSURED": IPS_ASSURED, "CONFIRMED": IPS_CONFIRMED,
}  # fmt: skip
# option -> (direction of the tuple, field); src/dst are addresses, sport/dport ports
ADDRESSES = {
    "--ctorigsrc": (0, "src"), "--ctorigdst": (0, "dst"), "--ctreplsrc": (1, "src"), "--ctrepldst": (1, "dst"),
}  # fmt: skip
PORTS = {
    "--ctorigsrcport": (0, "sport"), "--ctorigdstport": (0, "dport"),
    "--ctreplsrcport": (1, "sport"), "--ctrepldstport": (1, "dport"),
}  # fmt: skip
# order of evaluation (conntrack_mt) and of printing (libxt_conntrack)
TEST_ORDER = ("--ctstate", "--ctdir", *ADDRESSES, "--ctproto", *PORTS, "--ctstatus", "--ctexpire")
SAVE_ORDER = ("--ctstate", "--ctproto", *ADDRESSES, *PORTS, "--ctstatus", "--ctexpire", "--ctdir")

Criterion = tuple[str, bool, Any]  # option, negated, its value


def state_names(skb: Skb, conn: Conn | None) -> frozenset[str]:
    """The state bits of a packet: one from ctinfo, and SNAT/DNAT of its entry."""
    if conn is None:
        return frozenset(("UNTRACKED" if skb.ctinfo == IP_CT_UNTRACKED else "INVALID",))
    names = {CTINFO_NAME.get(2 if skb.ctinfo is None else skb.ctinfo, "NEW")}  # a template is attached as NEW
    if conn.status & IPS_SRC_NAT:
        names.add("SNAT")
    if conn.status & IPS_DST_NAT:
        names.add("DNAT")
    return frozenset(names)


def parse_states(at: At, option: str, text: str, known: tuple[str, ...]) -> frozenset[str]:
    names = frozenset(text.upper().split(","))
    if bad := sorted(names.difference(known)):
        raise at.error(f"{option}: unknown state {bad[0]!r}", f"one of {', '.join(known)}")
    return names


@match("conntrack", doc="-m conntrack ! --ctstate NEW,RELATED --ctproto 6 --ctorigsrc 10.0.0.0/8")
@dataclass(frozen=True, slots=True)
class Conntrack(Match):
    """``criteria`` in the kernel's order of evaluation."""

    tracks = True
    options = (
        Opt("--ctstate", 1, True),
        Opt("--ctproto", 1, True),
        *(Opt(name, 1, True) for name in (*ADDRESSES, *PORTS)),
        Opt("--ctstatus", 1, True),
        Opt("--ctexpire", 1, True),
        Opt("--ctdir", 1),
    )
    criteria: tuple[Criterion, ...]
    family: int = AF_INET

    @classmethod
    def parse(cls, found: Found, at: At) -> Conntrack:
        if not found:
            raise at.error("-m conntrack needs at least one option")
        values = {name: (name, negated, _value(at, name, args[0])) for name, negated, args in found}
        return cls(tuple(values[name] for name in TEST_ORDER if name in values), at.family)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb, ctx) is None

    def _failed(self, skb: Skb, ctx: Ctx) -> Criterion | None:
        conn = entry(skb, ctx)
        for criterion in self.criteria:
            name, negated, value = criterion
            if name == "--ctstate":
                if bool(state_names(skb, conn) & value) == negated:
                    return criterion
                if conn is None:  # "return info->match_flags & XT_CONNTRACK_STATE": nothing else is looked at
                    return None
            elif conn is None or _holds(name, value, conn, skb, ctx) == negated:
                return criterion
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        failed = self._failed(skb, ctx) or self.criteria[0]
        words = _words(failed, self.family)
        return Miss(" ".join(words), words[-1], _actual(failed[0], entry(skb, ctx), skb, ctx))

    def words(self) -> list[str]:
        by_name = {criterion[0]: criterion for criterion in self.criteria}
        return [word for name in SAVE_ORDER if name in by_name for word in _words(by_name[name], self.family)]


def _value(at: At, name: str, text: str) -> Any:
    if name == "--ctstate":
        return parse_states(at, name, text, STATES)
    if name == "--ctstatus":
        names = text.upper().split(",")
        if bad := [one for one in names if one not in STATUSES and one != "NONE"]:
            raise at.error(f"--ctstatus: unknown status {bad[0]!r}", f"one of NONE, {', '.join(STATUSES)}")
        return sum({STATUSES.get(one, 0) for one in names})
    if name == "--ctproto":
        known = PROTO_NUMBER.get(text.lower())
        return number(at, name, text, U8) if known is None else known
    if name in ADDRESSES:
        return network(at, name, text)
    if name in PORTS:
        return ports(at, name, text)
    if name == "--ctexpire":
        return span(at, name, text)
    if text.upper() not in DIR_NAME:
        raise at.error(f"--ctdir: {text!r} is neither ORIGINAL nor REPLY")
    return DIR_NAME.index(text.upper())


def _holds(name: str, value: Any, conn: Conn, skb: Skb, ctx: Ctx) -> bool:
    if name in ADDRESSES:
        direction, field = ADDRESSES[name]
        addr, mask = value
        return bool((getattr(conn.tuples[direction], field) ^ addr) & mask == 0)
    if name in PORTS:
        direction, field = PORTS[name]
        return ctx.in_range(getattr(conn.tuples[direction], field), *value)
    if name == "--ctproto":
        return conn.tuples[0].proto == value
    if name == "--ctstatus":
        return bool(conn.status & value)
    if name == "--ctdir":
        return ctinfo2dir(2 if skb.ctinfo is None else skb.ctinfo) == value
    low, high = value
    return bool(low <= _expires(conn, ctx) <= high)


def _expires(conn: Conn, ctx: Ctx) -> int:
    """Seconds left; an unconfirmed entry's timeout is not yet a point in time and reads as expired."""
    return 0 if conn.timeout_at is None else max(0, int(conn.timeout_at - ctx.now + 1e-9))


def _words(criterion: Criterion, family: int) -> list[str]:
    name, negated, value = criterion
    if name == "--ctstate":
        text = ",".join(one for one in STATES if one in value)
    elif name == "--ctstatus":
        text = ",".join(one for one, bit in STATUSES.items() if bit & value) or "NONE"
    elif name in ADDRESSES:
        text = show_network(family, *value)
    elif name == "--ctdir":
        text = DIR_NAME[value]
    elif name == "--ctproto":
        text = str(value)
    else:
        text = show_span(*value)
    return opt(name, negated, text)


def _actual(name: str, conn: Conn | None, skb: Skb, ctx: Ctx) -> str:
    if name == "--ctstate" or conn is None:
        return f"the packet is {', '.join(sorted(state_names(skb, conn)))}"
    if name in ADDRESSES:
        direction, field = ADDRESSES[name]
        return f"it is {format_addr(conn.tuples[direction].family, getattr(conn.tuples[direction], field))}"
    if name in PORTS:
        direction, field = PORTS[name]
        return f"it is {show_number(getattr(conn.tuples[direction], field), ctx)}"
    if name == "--ctproto":
        return f"the entry's protocol is {conn.tuples[0].proto}"
    if name == "--ctstatus":
        names = [one for bit, one in STATUS_NAME.items() if conn.status & bit]
        return f"the entry is {', '.join(names) or 'NONE'}"
    if name == "--ctdir":
        return f"the packet is in {DIR_NAME[ctinfo2dir(skb.ctinfo or 0)]} direction"
    return f"{_expires(conn, ctx)} s are left"
