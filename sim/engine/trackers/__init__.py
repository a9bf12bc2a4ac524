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
)

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


def tracker(proto: int) -> ModuleType:
    """nf_ct_l4proto_find(): the tracker of a protocol; what has none is tracked by ``generic``."""
    module = _loaded.get(proto)
    if module is None:
        import importlib

        module = _loaded[proto] = importlib.import_module(f"{__name__}.{_MODULES.get(proto, 'generic')}")
    return module
