"""``-m icmp`` and ``-m icmp6``: type and code. net/netfilter/xt_tcpudp.c icmp_match(), icmp6_match()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ..model.addr import AF_INET, AF_INET6
from ..model.packet import IPPROTO_ICMP, IPPROTO_ICMPV6
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U8, need_header, number, opt, said, span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

TypeCode = tuple[int, int, int]  # type, lowest and highest code

ICMP_NAME: dict[str, TypeCode] = {
    "any": (255, 0, 255), "echo-reply": (0, 0, 255), "pong": (0, 0, 255), "destination-unreachable": (3, 0, 255),
    "network-unreachable": (3, 0, 0), "host-unreachable": (3, 1, 1), "protocol-unreachable": (3, 2, 2),
    "port-unreachable": (3, 3, 3), "fragmentation-needed": (3, 4, 4), "source-route-failed": (3, 5, 5),
    "network-unknown": (3, 6, 6), "host-unknown": (3, 7, 7), "network-prohibited": (3, 9, 9),
    "host-prohibited": (3, 10, 10), "TOS-network-unreachable": (3, 11, 11), "TOS-host-unreachable": (3, 12, 12),
    "communication-prohibited": (3, 13, 13), "host-precedence-violation": (3, 14, 14), "precedence-cutoff": (3, 15, 15),
    "source-quench": (4, 0, 255), "redirect": (5, 0, 255), "network-redirect": (5, 0, 0), "host-redirect": (5, 1, 1),
    "TOS-network-redirect": (5, 2, 2), "TOS-host-redirect": (5, 3, 3), "echo-request": (8, 0, 255),
    "ping": (8, 0, 255), "router-advertisement": (9, 0, 255), "router-solicitation": (10, 0, 255),
    "time-exceeded": (11, 0, 255), "ttl-exceeded": (11, 0, 255), "ttl-zero-during-transit": (11, 0, 0),
    "ttl-zero-during-reassembly": (11, 1, 1), "parameter-problem": (12, 0, 255), "ip-header-bad": (12, 0, 0),
    "required-option-missing": (12, 1, 1), "timestamp-request": (13, 0, 255), "timestamp-reply": (14, 0, 255),
    "address-mask-request": (17, 0, 255), "address-mask-reply": (18, 0, 255),
}  # fmt: skip
ICMP6_NAME: dict[str, TypeCode] = {
    "destination-unreachable": (1, 0, 255), "no-route": (1, 0, 0), "communication-prohibited": (1, 1, 1),
    "beyond-scope": (1, 2, 2), "address-unreachable": (1, 3, 3), "port-unreachable": (1, 4, 4),
    "failed-policy": (1, 5, 5), "reject-route": (1, 6, 6), "packet-too-big": (2, 0, 255),
    "time-exceeded": (3, 0, 255), "ttl-exceeded": (3, 0, 255), "ttl-zero-during-transit": (3, 0, 0),
    "ttl-zero-during-reassembly": (3, 1, 1), "parameter-problem": (4, 0, 255), "bad-header": (4, 0, 0),
    "unknown-header-type": (4, 1, 1), "unknown-option": (4, 2, 2), "echo-request": (128, 0, 255),
    "ping": (128, 0, 255), "echo-reply": (129, 0, 255), "pong": (129, 0, 255), "mld-listener-query": (130, 0, 255),
    "mld-listener-report": (131, 0, 255), "mld-listener-done": (132, 0, 255), "mld-listener-reduction": (132, 0, 255),
    "router-solicitation": (133, 0, 255), "router-advertisement": (134, 0, 255),
    "neighbour-solicitation": (135, 0, 255), "neighbor-solicitation": (135, 0, 255),
    "neighbour-advertisement": (136, 0, 255), "neighbor-advertisement": (136, 0, 255), "redirect": (137, 0, 255),
}  # fmt: skip


def parse_type(at: At, option: str, text: str, names: dict[str, TypeCode]) -> TypeCode:
    """``8``, ``3/1``, ``3/0:5`` or a name, which may be abbreviated while it stays unambiguous."""
    if text[:1].isdigit():
        kind, slash, code = text.partition("/")
        low, high = span(at, option, code, U8) if slash else (0, U8)
        return number(at, option, kind, U8), low, high
    wanted = text.lower()
    hits = [value for name, value in names.items() if name.lower() == wanted]
    if not hits:
        hits = [value for name, value in names.items() if name.lower().startswith(wanted)]
    if len(hits) != 1:
        raise at.error(f"{option}: {'ambiguous' if hits else 'unknown'} ICMP type {text!r}")
    return hits[0]


@dataclass(frozen=True, slots=True)
class _TypeMatch(Match):
    """Type and range of codes."""

    kind: int = 255
    codes: tuple[int, int] = (0, 255)
    negated: bool = False
    icmp4: bool = True

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if not need_header(skb, 8):
            return False
        if self.icmp4 and self.kind == 255:
            return not self.negated
        hit = skb.icmp_type == self.kind and self.codes[0] <= skb.icmp_code <= self.codes[1]
        return hit != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        actual = f"type {skb.icmp_type} code {skb.icmp_code}" if not skb.frag else "the packet is a later fragment"
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def _show(self) -> str:
        if self.icmp4 and self.kind == 255:
            return "any"
        code = "" if self.codes == (0, 255) else f"/{self.codes[0]}"  # iptables-save never prints a range
        return f"{self.kind}{code}"


@match("icmp", families=(AF_INET,), doc="-p icmp -m icmp --icmp-type 3/1")
@dataclass(frozen=True, slots=True)
class Icmp(_TypeMatch):
    """ICMP for IPv4."""

    options = (Opt("--icmp-type", 1, True),)

    @classmethod
    def parse(cls, found: Found, at: At) -> Self:
        if at.proto != IPPROTO_ICMP or at.proto_negated:
            raise at.error("-m icmp needs -p icmp")
        if not found:
            raise at.error("-m icmp needs --icmp-type")
        kind, low, high = parse_type(at, "--icmp-type", found[0].args[0], ICMP_NAME)
        return cls(kind, (low, high), found[0].negated)

    def words(self) -> list[str]:
        return opt("--icmp-type", self.negated, self._show())


@match("ipv6-icmp", families=(AF_INET6,), doc="-p ipv6-icmp -m icmp6 --icmpv6-type 128")
@match("icmpv6", families=(AF_INET6,), doc="-p ipv6-icmp -m icmp6 --icmpv6-type 128")
@match("icmp6", families=(AF_INET6,), doc="-p ipv6-icmp -m icmp6 --icmpv6-type 128")
@dataclass(frozen=True, slots=True)
class Icmp6(_TypeMatch):
    """ICMP for IPv6."""

    options = (Opt("--icmpv6-type", 1, True),)

    @classmethod
    def parse(cls, found: Found, at: At) -> Self:
        if at.proto != IPPROTO_ICMPV6 or at.proto_negated:
            raise at.error("-m icmp6 needs -p icmpv6")
        if not found:
            raise at.error("-m icmp6 needs --icmpv6-type")
        kind, low, high = parse_type(at, "--icmpv6-type", found[0].args[0], ICMP6_NAME)
        return cls(kind, (low, high), found[0].negated, False)

    def words(self) -> list[str]:
        return opt("--icmpv6-type", self.negated, self._show())
