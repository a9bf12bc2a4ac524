"""Events as a pcapng file that Wireshark and tshark open: each packet carries hook and verdict as its comment.

Blocks as of draft-ietf-opsawg-pcapng: a section header, an interface description for each (host, device or hook),
enhanced packets with opt_comment. The record holds the headers and the first octets behind them, so packets are cut off
there, with their real length stated; checksums of TCP and UDP are left 0 (not shown as wrong where they are unchecked).
"""

from __future__ import annotations

import struct
from typing import IO, Any

from ....sim.render.style import clean
from ..event import AF_INET6, HOOKS, KIND
from ..scene import Scene
from ..story import Story
from .text import what

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
LINKTYPE_RAW = 101
OPT_COMMENT, IF_NAME, IF_DESCRIPTION, IF_TSRESOL = 1, 2, 3, 9
SHOWN = (KIND.tap, KIND.rx, KIND.tx, KIND.drop, KIND.icmp_send, KIND.tcp_reset)
APPLICATION = b"nattrace trace"


class PcapngWriter:
    """Writes stories as they are told. ``offset``: what turns CLOCK_MONOTONIC into nanoseconds since 1970."""

    def __init__(self, file: IO[bytes], scene: Scene, offset: int) -> None:
        self.file, self.scene, self.offset = file, scene, offset
        self.interfaces: dict[tuple[int, str], int] = {}
        body = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _option(4, APPLICATION) + _option(0, b"")
        self._block(SECTION, body)

    def story(self, story: Story, words: str) -> None:
        """All events of a packet, each with its comment; ``words``: how it ended, told at its last event."""
        rows = [e for e in story.events if KIND(int(e["kind"])) in SHOWN]
        for at, event in enumerate(rows):
            inum, kind = int(event["netns"]), KIND(int(event["kind"]))
            said = f"#{story.number} {clean(self.scene.host(inum))}: {what(event, kind, self.scene, inum)}"
            changed = _changed(story, int(event["ts"]))
            said += f"; {changed}" if changed else ""
            said += f" | {clean(words)}" if at == len(rows) - 1 else ""
            self._packet(event, said)
        self.file.flush()

    def _packet(self, event: Any, comment: str) -> None:
        data = headers(event)
        ts = int(event["ts"]) + self.offset
        head = struct.pack(
            "<IIIII",
            self._interface(event),
            ts >> 32 & 0xFFFFFFFF,
            ts & 0xFFFFFFFF,
            len(data),
            max(len(data), int(event["len"])),
        )
        self._block(PACKET, head + _padded(data) + _option(OPT_COMMENT, comment.encode()) + _option(0, b""))

    def _interface(self, event: Any) -> int:
        """A device for what came or went by it, the hook for what was seen inside."""
        inum, kind = int(event["netns"]), KIND(int(event["kind"]))
        number = int(event["outdev"] if kind == KIND.tx else event["indev"])
        place = (self.scene.device(inum, number) or "?") if kind in (KIND.rx, KIND.tx) else kind.name
        if kind == KIND.tap:
            place = HOOKS[int(event["hook"])]
        key = (inum, place)
        if key not in self.interfaces:
            self.interfaces[key] = len(self.interfaces)
            name = f"{self.scene.host(inum)}:{place}".encode()
            body = (
                struct.pack("<HHI", LINKTYPE_RAW, 0, 0)
                + _option(IF_NAME, name)
                + _option(IF_TSRESOL, b"\x09")
                + _option(0, b"")
            )
            self._block(INTERFACE, body)
        return self.interfaces[key]

    def _block(self, kind: int, body: bytes) -> None:
        size = struct.pack("<I", 12 + len(body))
        self.file.write(struct.pack("<I", kind) + size + body + size)


def _changed(story: Story, ts: int) -> str:
    found = []
    for hop, times in zip(story.hops, story.times, strict=True):
        for step, at in zip(hop.steps, times, strict=True):
            if at == ts and step.changes:
                found += [f"{k} {a} → {b}" for k, (a, b) in step.changes.items()]
            if at == ts and step.conntrack:
                found.append(step.conntrack)
            if at == ts and step.rule:
                found.append(f"{step.table} {step.chain} {step.rule}")
    return ", ".join(clean(f) for f in found)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    value = value[:65535]
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def headers(event: Any) -> bytes:
    """The packet's headers again, from what the record holds of them."""
    row, size = event["t"], int(event["len"])
    inner = b"" if event["frag"] & 0x1FFF else _transport(event)
    proto, ttl = int(row["proto"]), int(event["ttl"])
    if row["l3num"] == AF_INET6:
        fixed = struct.pack(">IHBB", 6 << 28, max(size - 40, 0) & 0xFFFF, proto, ttl)
        return fixed + bytes(row["s"]) + bytes(row["d"]) + inner
    ends = bytes(row["s"][:4]) + bytes(row["d"][:4])
    fields = [0x45, 0, size & 0xFFFF, int(event["ipid"]), int(event["frag"]), ttl, proto]
    head = struct.pack(">BBHHHBBH", *fields, 0) + ends
    return struct.pack(">BBHHHBBH", *fields, _checksum(head)) + ends + inner


def _transport(event: Any) -> bytes:
    row, pay, proto = event["t"], bytes(event["pay"]), int(event["t"]["proto"])
    ports = struct.pack(">HH", int(row["sport"]), int(row["dport"]))
    size = int(event["len"]) - (40 if row["l3num"] == AF_INET6 else 20)
    if proto == 6:
        return ports + pay + struct.pack(">BBHHH", 0x50, int(event["tcp_flags"]), 0, 0, 0)
    if proto in (17, 136):
        return ports + struct.pack(">HH", size & 0xFFFF, 0) + pay[: max(size - 8, 0)]
    if proto in (1, 58):
        kind = struct.pack(">HHH", int(row["dport"]), 0, int(row["sport"]))
        return kind + pay[:2] + pay[2 : 2 + max(size - 8, 0)]
    return pay if proto not in (33, 132) else ports + pay
