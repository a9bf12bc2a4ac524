"""``confirm --probe``: the flow's first packet, sent by an ordinary socket of the host where it begins, or put on the wire
to the host that receives it (wire.py)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ...sim.errors import InputError, MissingFacility

if TYPE_CHECKING:
    from ...sim.flow import Question
    from .netns import Namespace


def send(question: Question, spaces: list[Namespace], say: Callable[[str], None]) -> None:
    """Says first what is sent. Raises InputError for a flow that nothing here can send."""
    ns = next((ns for ns in spaces if ns.name == question.host), None)
    if ns is None:
        raise InputError(
            f"--probe: {question.host} is not among the namespaces here", remedy="add it: --netns HOST=NAME"
        )
    if question.in_dev is not None:
        from .wire import inject

        inject(question, ns, say)
        return
    packet = question.packet
    family = socket.AF_INET6 if ":" in packet["dst"] else socket.AF_INET
    say(f"sends from {question.host}: {question.flow}")
    with ns.inside():
        _send(family, packet["proto"], packet)


def _send(family: int, proto: str, packet: dict[str, object]) -> None:
    kinds = {"udp": (socket.SOCK_DGRAM, 0), "tcp": (socket.SOCK_STREAM, 0), "icmp": (socket.SOCK_RAW, socket.IPPROTO_ICMP),
             "icmpv6": (socket.SOCK_RAW, socket.IPPROTO_ICMPV6)}  # fmt: skip
    if proto not in kinds:
        raise InputError(f"--probe sends tcp, udp and echo requests, not {proto}")
    try:
        sock = socket.socket(family, *kinds[proto])
    except PermissionError:
        raise MissingFacility("a raw socket is not permitted", remedy="run it with sudo") from None
    with sock:
        sock.settimeout(2)
        if packet.get("mark"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(str(packet["mark"])))
        sport = packet.get("sport")
        try:
            if packet.get("src") or sport:
                sock.bind((str(packet.get("src") or ""), int(sport) if isinstance(sport, int) else 0))
            if proto == "tcp":
                with suppress(TimeoutError, ConnectionError):
                    sock.connect((str(packet["dst"]), int(str(packet["dport"]))))
            elif proto == "udp":
                sock.sendto(b"x", (str(packet["dst"]), int(str(packet["dport"]))))
            else:
                sock.sendto(_echo(family, packet), (str(packet["dst"]), 0))
        except OSError as error:
            raise InputError(f"--probe: sending failed: {error.strerror or error}") from None


def _echo(family: int, packet: dict[str, object]) -> bytes:
    """An echo request; of ICMPv6 the kernel writes the checksum."""
    ident = packet.get("icmp_id")
    head = struct.pack(
        ">BBHHH", 8 if family == socket.AF_INET else 128, 0, 0, int(ident) if isinstance(ident, int) else 0, 1
    )
    if family == socket.AF_INET6:
        return head
    total = sum(struct.unpack(">4H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:2] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[4:]
