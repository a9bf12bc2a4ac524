"""REJECT: net/ipv4/netfilter/ipt_REJECT.c reject_tg(), nf_reject_ipv4.c nf_send_unreach(), nf_send_reset()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.packet import IPPROTO_TCP
from ..model.rule import DROP, NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

TCP_RESET = "tcp-reset"

# name -> (alias, code of a destination unreachable), in the order in which abbreviations are tried
_V4 = {
    "icmp-net-unreachable": ("net-unreach", 0),
    "icmp-host-unreachable": ("host-unreach", 1),
    "icmp-proto-unreachable": ("proto-unreach", 2),
    "icmp-port-unreachable": ("port-unreach", 3),
    "icmp-net-prohibited": ("net-prohib", 9),
    "icmp-host-prohibited": ("host-prohib", 10),
    TCP_RESET: ("tcp-rst", None),
    "icmp-admin-prohibited": ("admin-prohib", 13),
}
_V6 = {
    "icmp6-no-route": ("no-route", 0),
    "icmp6-adm-prohibited": ("adm-prohibited", 1),
    "icmp6-addr-unreachable": ("addr-unreach", 3),
    "icmp6-port-unreachable": ("port-unreach", 4),
    TCP_RESET: ("tcp-reset", None),
    "icmp6-policy-fail": ("policy-fail", 5),
    "icmp6-reject-route": ("reject-route", 6),
}


@target(
    "REJECT",
    tables=("filter",),
    hooks=(NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT),
    doc="-j REJECT --reject-with icmp-host-prohibited",
)
@dataclass(frozen=True, slots=True)
class Reject(Target):
    """Discards the packet and tells the sender. Whether an answer may be sent at all is engine.icmp's to know."""

    options = (Opt("--reject-with"),)
    terminal = True

    reject_with: str = "icmp-port-unreachable"
    family: int = AF_INET

    @classmethod
    def parse(cls, found: Found, at: At) -> Reject:
        options = Options("REJECT", found, at)
        table = _V4 if at.family == AF_INET else _V6
        given = options.text("--reject-with")
        if given is None:
            return cls("icmp-port-unreachable" if at.family == AF_INET else "icmp6-port-unreachable", at.family)
        for name, (alias, _) in table.items():
            if name.startswith(given.lower()) or alias.startswith(given.lower()):
                if name == TCP_RESET and (at.proto != IPPROTO_TCP or at.proto_negated):
                    raise at.error("REJECT --reject-with tcp-reset needs -p tcp", "add -p tcp to the rule")
                return cls(name, at.family)
        raise options.bad("--reject-with", f"one of {', '.join(table)}")

    def words(self) -> list[str]:
        return ["--reject-with", self.reject_with]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        from ..engine import icmp

        verdict = Verdict(DROP, reason="rejected_by_rule")
        if self.reject_with == TCP_RESET:
            icmp.tcp_reset(ctx, skb)
            return verdict
        if skb.frag or not icmp.checksum_holds(ctx, skb):  # nf_send_unreach()
            return verdict
        v4 = self.family == AF_INET
        code = (_V4 if v4 else _V6)[self.reject_with][1]
        icmp.icmp_send(ctx, skb, 3 if v4 else 1, code or 0)
        return verdict
