"""Captures to sightings: pcap and pcapng read by scapy, packets taken apart by the same reader as the lab's.

Where an interface is, and whether a frame came in or went out, is taken from the file (pcapng's interface names and
directions, Linux cooked headers), from hardware addresses of the snapshot, or from what the user says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nattrace.sim.errors import InputError, MissingFacility
from nattrace.sim.model.addr import AF_INET, parse_addr
from nattrace.sim.model.world import Host, World
from nattrace.sim.what.sighting import IN, OUT, Sighting

MOST_PACKETS = 200_000  # of one file
LARGEST = 2 << 30  # bytes of a file
LATEST = 1e9  # seconds after the first packet: a damaged time stamp is no reason to stop

# link types, https://www.tcpdump.org/linktypes.html
NULL, ETHERNET, RAW_BSD, RAW, SLL, IPV4, SLL2 = 0, 1, 12, 101, 113, 228, 276
_OFFSET = {NULL: 4, RAW_BSD: 0, RAW: 0, IPV4: 0, SLL: 16, SLL2: 20}
ETH_P_IP, ETH_P_8021Q, ETH_P_8021AD = 0x0800, 0x8100, 0x88A8
PACKET_OUTGOING = 4  # of a cooked header: sent by the host itself


class Frame(NamedTuple):
    """One packet of a file: number from 1, absolute time, interface name and way if the file tells, addresses of its
    frame (6 bytes each) or None, and the bytes from the IP header on."""

    number: int
    time: float
    interface: str | None
    way: str | None
    macs: tuple[bytes, bytes] | None
    data: bytes


class Capture(NamedTuple):
    """A file that was read. ``skipped``: number of frames that are no IPv4 packet, ``cut``: more frames follow."""

    path: str
    frames: list[Frame]
    skipped: int
    cut: bool


def read_capture(path: str | Path) -> Capture:
    """Read a pcap or pcapng file. Raises InputError for what is none, MissingFacility without scapy."""
    try:
        from scapy.error import Scapy_Exception
        from scapy.utils import RawPcapNgReader, RawPcapReader
    except ImportError:
        raise MissingFacility("scapy is not installed", remedy="pip install 'nattrace[live]'") from None
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    if Path(path).stat().st_size > LARGEST:
        raise InputError(
            f"{path}: larger than {LARGEST >> 30} GiB", remedy="filter it first: tcpdump -r FILE -w SMALL …"
        )
    frames: list[Frame] = []
    skipped = 0
    cut = False
    try:
        with RawPcapReader(str(path)) as reader:
            modern = isinstance(reader, RawPcapNgReader)
            for number, (data, meta) in enumerate(reader, 1):
                if number > MOST_PACKETS:
                    cut = True
                    break
                frame = _frame(number, data, meta, None if modern else reader.linktype)
                if frame is None:
                    skipped += 1
                else:
                    frames.append(frame)
    except (
        Scapy_Exception,
        EOFError,
        ValueError,
        LookupError,
        ArithmeticError,
        TypeError,
        struct.error,
        OSError,
    ) as error:
        # scapy's readers unpack the blocks of a damaged file with whatever they raise
        raise InputError(
            f"{path}: not a capture, or a damaged one: {error}", remedy="tcpdump -i IFACE -w FILE makes one"
        ) from None
    return Capture(str(path), frames, skipped, cut)


def _frame(number: int, data: bytes, meta: Any, linktype: int | None) -> Frame | None:
    """None for what is no IPv4 packet."""
    if linktype is None:
        resolution = meta.tsresol or 1_000_000
        ticks = ((meta.tshigh or 0) << 32) + (meta.tslow or 0)
        time = ticks / resolution
        name = _text(meta.ifname)
        way = {1: IN, 2: OUT}.get(meta.direction)
        linktype = meta.linktype
    else:
        time, name, way = meta.sec + meta.usec / 1_000_000, None, None
    macs = None
    if linktype == ETHERNET:
        macs = (data[:6], data[6:12])
        at, kind = 12, int.from_bytes(data[12:14], "big")
        while kind in (ETH_P_8021Q, ETH_P_8021AD):
            at += 4
            kind = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 :] if kind == ETH_P_IP else b""
    elif linktype in _OFFSET:
        body = data[_OFFSET[linktype] :]
        if linktype == SLL and len(data) >= 16:
            way = way or (OUT if int.from_bytes(data[0:2], "big") == PACKET_OUTGOING else IN)
        if linktype == SLL2 and len(data) >= 20:
            way = way or (OUT if data[10] == PACKET_OUTGOING else IN)
    else:
        raise ValueError(f"link type {linktype} is not known (Ethernet, Linux cooked and raw IP are)")
    if len(body) < 20 or body[0] >> 4 != 4:
        return None
    return Frame(number, time, name, way, macs, body)


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value or None


# ------------------------------------------------------------------------------------------ sightings


class Place(NamedTuple):
    """Where a capture was taken."""

    host: str
    dev: str


def place_of(world: World, capture: Capture, host: str | None, dev: str | None) -> Place:
    """The interface of a capture: as the user says, as the file says, or the one whose hardware address is in it."""
    if host is not None and host not in world.hosts:
        raise InputError(f"--at: {host!r} is not in the snapshot", remedy=f"hosts: {', '.join(world.hosts)}")
    hosts = [world.hosts[host]] if host is not None else list(world.hosts.values())
    named = dev or next((f.interface for f in capture.frames if f.interface), None)
    if named is not None:
        found = [Place(h.name, named) for h in hosts if named in h.links]
        if dev is not None and not found:
            known = ", ".join(f"{h.name}:{name}" for h in hosts for name in h.links)
            raise InputError(f"--in: no interface {dev!r}", remedy=f"interfaces: {known}")
        if len(found) > 1:
            found = [p for p in _by_mac(hosts, capture) if p in found] or found
    else:
        found = _by_mac(hosts, capture)
    if len(found) == 1:
        return found[0]
    choices = [f"{p.host}:{p.dev}" for p in found] or [f"{h.name}:{n}" for h in hosts for n in h.links if n != "lo"]
    raise InputError(
        f"{capture.path}: at which interface was it taken?",
        remedy=f"say --at HOST --in IFACE; candidates: {', '.join(choices)}",
    )


def _by_mac(hosts: list[Host], capture: Capture) -> list[Place]:
    """Interfaces whose own address every frame has on one side (a broadcast has it on neither)."""
    pairs = {f.macs for f in capture.frames if f.macs and not f.macs[0][0] & 1}
    return [
        Place(h.name, link.name) for h in hosts for link in h.links.values()
        if link.mac and pairs and all(link.mac.to_bytes(6, "big") in pair for pair in pairs)
    ]  # fmt: skip


def sightings(world: World, capture: Capture, place: Place, start: float) -> Iterator[Sighting]:
    """The packets of a capture as the simulator speaks of them; ``start``: absolute time that counts as 0.

    Raises InputError where nothing tells whether a packet came in or went out.
    """
    from .lab.packets import parse

    for frame in capture.frames:
        try:
            packet = parse(frame.data)
        except (ValueError, IndexError):
            continue
        if packet.get("frag"):
            continue  # only the first fragment tells the flow
        way = frame.way or _way(world.hosts[place.host], place.dev, frame, packet)
        header = (frame.data[0] & 15) * 4
        yield Sighting(
            frame.number, min(max(frame.time - start, 0.0), LATEST), place.host, place.dev, way, packet,
            (packet["proto"], packet["ip_id"], packet.get("tcp_seq"), packet.get("seq"), _payload(frame.data[header:], packet)),
        )  # fmt: skip


def _payload(body: bytes, packet: dict[str, Any]) -> bytes:
    """What follows the transport header: NAT leaves it alone (but for helpers)."""
    proto = packet["proto"]
    if proto == "tcp" and len(body) >= 20:
        return body[(body[12] >> 4) * 4 :]
    return b"" if packet.get("inner") else body[8:]


def _way(host: Host, dev: str, frame: Frame, packet: dict[str, Any]) -> str:
    """From hardware addresses, else from the packet's own: what a host's address sends goes out."""
    link = host.links.get(dev)
    if frame.macs and link is not None and link.mac is not None:
        own = link.mac.to_bytes(6, "big")
        if frame.macs[1] == own:
            return OUT
        return IN
    own_addresses = {a.local for a in host.addresses if a.family == AF_INET}
    here = [a.network for a in host.addresses if a.dev == dev and a.family == AF_INET and a.plen < 32]
    src, dst = parse_addr(packet["src"])[1], parse_addr(packet["dst"])[1]
    if src in own_addresses:
        return OUT
    if dst in own_addresses or any(src in n for n in here):
        return IN
    if any(dst in n for n in here):
        return OUT
    raise InputError(
        f"packet {frame.number} ({packet['src']} → {packet['dst']}): did it come in or go out?",
        remedy="the file has no hardware addresses or directions; capture with tcpdump -i IFACE -w FILE (pcap of an Ethernet)",
    )
