"""The five situations as a guided tour: for each stage its snapshot, the question, what to look at, what to try next.

The answers are not written here: they are made from the bundled snapshots when the tour is given.
"""

from __future__ import annotations

from .record import NamedTuple


class Stop(NamedTuple):
    """``options``: as typed after the flow. ``look``: what the answer teaches. ``next``: commands worth trying."""

    snapshot: str
    stage: str
    flow: str
    look: str
    options: tuple[str, ...] = ()
    next: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        more = "".join(f" {word}" if word.startswith("-") else f" '{word}'" for word in self.options)
        return f"nattrace why '{self.flow}' -S {self.snapshot}{more}"


class Tour(NamedTuple):
    name: str
    title: str
    stops: tuple[Stop, ...]


_PING = "114.114.114.114 at private"
_TWICE = "icmp 10.10.1.1 -> 8.8.8.8 at client"
_GHOST = "192.168.100.1 -> 192.168.100.3"
_B = "172.31.26.176 -> 203.0.113.9"

TOURS = (
    Tour(
        "private-namespace",
        "a private namespace behind one SNAT",
        (
            Stop("private-namespace.no-route", "the namespace has an address and nothing else", _PING,
                 "No packet was ever made: send() failed. Rules have nothing to do with it; the fix names all three things "
                 "that are missing.",
                 next=("nattrace explain no_route",)),
            Stop("private-namespace", "a default route and an SNAT rule, and still silence", _PING,
                 "The packet ends where it is routed, long before POSTROUTING: that is why the rule's counter stays 0.",
                 next=(f"nattrace why '{_PING}' -S private-namespace --set 'net.ipv4.ip_forward=1 at host'",)),
            Stop("private-namespace.forwarding", "forwarding is on", _PING,
                 "The source changes in nat POSTROUTING, last of all; the reply gets its old destination back in PREROUTING.",
                 next=(f"nattrace why '{_PING} len 1450 df' -S private-namespace.forwarding",)),
        ),
    ),
    Tour(
        "twice-through-conntrack",
        "a flow that passes one host twice",
        (
            Stop("twice-through-conntrack", "a transparent proxy sends the packet back through the same host", _TWICE,
                 "MASQUERADE was never asked on pass 2: the entry of pass 1 had settled the translation already, as none.",
                 next=(f"nattrace why '{_TWICE}' -S twice-through-conntrack --html twice.html",)),
            Stop("twice-through-conntrack.zones", "each pass in a conntrack zone of its own", _TWICE,
                 "Two zones, two entries, two decisions. The reply finds its way back through both."),
            Stop("twice-through-conntrack.zone-on-proxy-only", "a zone on one side only", _TWICE,
                 "It is translated, and the reply is lost: it comes in by an interface whose packets are in no zone.",
                 next=("nattrace explain zone_mismatch",)),
        ),
    ),
    Tour(
        "nonexistent-address",
        "reach a host through an address that nobody owns",
        (
            Stop("nonexistent-address.nothing", "nothing is set up", _GHOST,
                 "The kernel asks for the owner of the address, nobody answers, and the sender itself reports host unreachable."),
            Stop("nonexistent-address", "a route and a DNAT rule", _GHOST,
                 "The request arrives. Its reply does not: vm03 answers to another network by its own gateway.",
                 next=(f"nattrace why '{_GHOST}' -S nonexistent-address --expect reply",)),
            Stop("nonexistent-address.masquerade", "a MASQUERADE rule beside it", _GHOST,
                 "vm03 now answers to vm02, which knows both translations and puts them back."),
        ),
    ),
    Tour(
        "two-uplinks",
        "one NAT instance, two public addresses",
        (
            Stop("two-uplinks.nothing-set", "forwarding is off", _B,
                 "An instance that is no router drops what is not for it, and tells nobody."),
            Stop("two-uplinks.forwarding", "forwarding is on, and both clients leave by eth0", _B,
                 "MASQUERADE takes the address of the interface that routing chose: it follows, it does not choose.",
                 ("--no-fixes",)),
            Stop("two-uplinks", "a policy rule for one client", _B,
                 "Rule 32764 leads this client to table 10001 and out by eth1; its public address is the other one.",
                 next=("nattrace why '172.31.26.10 -> 203.0.113.9' -S two-uplinks",)),
            Stop("two-uplinks.running-ping", "a connection that is older than the policy rule", _B,
                 "Its entry remembers the interface that it was masqueraded for. One packet is lost, the next one starts "
                 "afresh."),
        ),
    ),
    Tour(
        "per-user-source",
        "one source address for each local user",
        (
            Stop("per-user-source", "three SNAT rules with -m owner", "8.8.8.8 uid userB at host",
                 "The rule asks whose socket sent the packet: userB leaves as .102.",
                 next=("nattrace why '8.8.8.8 uid root at host' -S per-user-source -q",)),
            Stop("per-user-source", "the same rules and a packet that is only forwarded", "172.17.0.2 -> 8.8.8.8 at container",
                 "A forwarded packet has no socket on this host, so it has no owner, whoever sent it.",
                 ("--expect", "rule nat:POSTROUTING:2", "--no-fixes")),
            Stop("per-user-source.masquerading-router", "the next router masquerades", "8.8.8.8 uid userB at host",
                 "What the first host did is done over by the second: outside, all users look alike."),
        ),
    ),
)  # fmt: skip
