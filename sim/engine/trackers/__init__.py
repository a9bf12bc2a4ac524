"""Protocol trackers of conntrack: one module per protocol, net/netfilter/nf_conntrack_proto_*.c.

A tracker is a module with ``packet(ctx, skb, conn) -> str`` (one of the codes in ``common``), ``ALLOW_CLASH`` and
``NAME``. ``conn`` is the entry as looked up; the tracker replaces it in the table where it changes it.
"""

from __future__ import annotations

from types import ModuleType

from ...model.packet import (
    IPPROTO_DCCP,
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    WITH_PORTS,
)
from ...model.world import Host

_MODULES = {
    IPPROTO_UDP: "udp",
    IPPROTO_TCP: "tcp",
    IPPROTO_ICMP: "icmp",
    IPPROTO_ICMPV6: "icmp",
    IPPROTO_SCTP: "sctp",
    IPPROTO_DCCP: "dccp",
    IPPROTO_GRE: "gre",
    IPPROTO_UDPLITE: "udplite",
}
_loaded: dict[int, ModuleType] = {}


DCCP_DROPPED = (6, 17)  # first kernel whose conntrack and NAT no longer know DCCP (CONFIG_NF_CT_PROTO_DCCP is gone)


def knows(host: Host, proto: int) -> bool:
    """Whether the host's kernel has a tracker for the protocol; without one it is tracked by addresses alone."""
    if proto == IPPROTO_DCCP:
        return host.kernel < DCCP_DROPPED or "net.netfilter.nf_conntrack_dccp_loose" in host.sysctl
    return proto in _MODULES


def keyed_by_ports(host: Host, proto: int) -> bool:
    """Whether tuples of the protocol hold ports (nf_ct_get_tuple)."""
    return proto in WITH_PORTS and knows(host, proto)


def tracker(host: Host, proto: int) -> ModuleType:
    """nf_ct_l4proto_find(): the tracker of a protocol; what has none is tracked by ``generic``."""
    if not knows(host, proto):
        proto = 0
    module = _loaded.get(proto)
    if module is None:
        import importlib

        module = _loaded[proto] = importlib.import_module(f"{__name__}.{_MODULES.get(proto, 'generic')}")
    return module
