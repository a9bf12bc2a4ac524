"""Packets by scapy: what a person reads, what changed between two forms of one packet, and valid bytes again.

>>> before, after = bytes.fromhex("450000…"), bytes.fromhex("450000…")   # doctest: +SKIP
>>> changed(before, after)                                               # doctest: +SKIP
[Change(field='IP.ttl', before='64', after='63')]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

COMPUTED = frozenset(("IP.chksum", "IP.len", "UDP.chksum", "UDP.len", "TCP.chksum", "ICMP.chksum", "IPv6.plen"))


class Change(NamedTuple):
    """One field that is not what it was; ``field``: the layer and its field as scapy names them."""

    field: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.field} {self.before} → {self.after}"


def dissect(data: bytes) -> Any:
    """The packet that begins with this IPv4 or IPv6 header, as scapy has it."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    return IPv6(data) if data[:1] and data[0] >> 4 == 6 else IP(data)


def summary(data: bytes) -> str:
    """One line, as scapy puts it."""
    return str(dissect(data).summary())


def fields(packet: Any) -> Iterator[tuple[str, str]]:
    """Every field of every layer: ``("IP.ttl", "64")`` …; a layer that occurs again is numbered."""
    seen: dict[str, int] = {}
    layer = packet
    while layer is not None and layer.name != "NoPayload":
        name = type(layer).__name__
        seen[name] = seen.get(name, 0) + 1
        prefix = name if seen[name] == 1 else f"{name}{seen[name]}"
        for descriptor in layer.fields_desc:
            value = layer.getfieldval(descriptor.name)
            yield f"{prefix}.{descriptor.name}", str(descriptor.i2repr(layer, value))
        layer = layer.payload or None


def changed(before: bytes, after: bytes, computed: bool = False) -> list[Change]:
    """What differs; lengths and checksums, which follow from the rest, only when asked for."""
    if before == after:
        return []
    old, new = dict(fields(dissect(before))), dict(fields(dissect(after)))
    found = []
    for name in [*old, *(n for n in new if n not in old)]:
        if old.get(name) != new.get(name) and (computed or name not in COMPUTED):
            found.append(Change(name, old.get(name), new.get(name)))
    return found


def rebuilt(packet: Any) -> bytes:
    """The bytes of a packet that was edited, its lengths and checksums made right."""
    packet = packet.copy()
    layer = packet
    while layer is not None and layer.name != "NoPayload":
        for name in ("chksum", "len", "plen", "cksum"):
            if f"{type(layer).__name__}.{name}" in COMPUTED:
                layer.delfieldval(name)
        layer = layer.payload or None
    return bytes(packet)


def header(data: bytes) -> dict[str, Any]:
    """The packet in the form that ``simulate`` and the steps of a story use (docs/reference/schemas)."""
    from scapy.layers.inet import ICMP, TCP, UDP

    packet = dissect(data)
    v6 = packet.version == 6
    names = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
    proto = packet.nh if v6 else packet.proto
    found: dict[str, Any] = {
        "proto": names.get(proto, str(proto)), "src": packet.src, "dst": packet.dst,
        "ttl": packet.hlim if v6 else packet.ttl, "tos": packet.tc if v6 else packet.tos,
        "len": packet.plen + 40 if v6 else packet.len,
    }  # fmt: skip
    if not v6:
        found |= {"df": bool(packet.flags.DF), "ip_id": packet.id}
    if UDP in packet:
        found |= {"sport": packet[UDP].sport, "dport": packet[UDP].dport}
    elif TCP in packet:
        tcp = packet[TCP]
        found |= {
            "sport": tcp.sport,
            "dport": tcp.dport,
            "flags": str(tcp.flags),
            "tcp_seq": tcp.seq,
            "tcp_ack": tcp.ack,
        }
        found["window"] = tcp.window
    elif ICMP in packet:
        icmp = packet[ICMP]
        found |= {"type": icmp.type, "code": icmp.code}
        if icmp.type in (0, 8):
            found |= {"icmp_id": icmp.id, "seq": icmp.seq}
    return found
