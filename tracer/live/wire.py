"""``confirm --probe`` of a flow that a host receives: its first packet put on the wire from the other end.

    end = far_end(ns, "eth0")         # End: the namespace and device at the other end of eth0, and what a frame needs
    inject(question, ns, say)         # says first what is sent, and where

The other end must be a veth in a namespace of this machine: of the device itself, or of a port of the bridge. Whatever
else is at the far end is not ours to speak for; InputError says what it is.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ...sim.errors import InputError, MissingFacility
from .netns import Namespace, _nsid
from .surroundings import reachable

if TYPE_CHECKING:
    from ...sim.flow import Question

SENDER_PORT = 40000  # where FLOW leaves it open
ELSEWHERE = "send it from where it comes, or confirm it at its sender"


class End(NamedTuple):
    """``space``: open, to be closed by the caller. ``source``, ``target``: hardware addresses of the frame."""

    space: Namespace
    device: str
    source: str
    target: str


def inject(question: Question, ns: Namespace, say: Callable[[str], None]) -> None:
    """Raises InputError where nobody here holds the other end, or for a protocol that is not sent."""
    assert question.in_dev is not None
    packet = question.packet
    end = far_end(ns, question.in_dev)
    with end.space:
        frame = _frame(packet, end)
        say(
            f"puts on the wire at {end.device} of {end.space.name}, for {question.in_dev} of {ns.name}: {question.text}"
        )
        try:
            with end.space.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
                sock.bind((end.device, 0))
                sock.send(frame)
        except PermissionError:
            raise MissingFacility("a packet socket is not permitted", remedy="run it with sudo (CAP_NET_RAW)") from None
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError(f"--probe: sending by {end.device} of {end.space.name} failed: {why}") from None


# ------------------------------------------------------------------------------------------------ the other end


def far_end(ns: Namespace, device: str) -> End:
    """Where a frame must be sent to come in by a device of a namespace."""
    links = {link["ifname"]: link for link in _links(ns)}
    if device not in links:
        raise InputError(f"--probe: {ns.name} has no device {device}", remedy=f"there are: {', '.join(links)}")
    link = links[device]
    kind = _kind(link)
    if kind == "veth":
        return _peer(ns, link, str(link.get("address")))
    if kind == "bridge":
        return _by_port(ns, link, links)
    if "LOOPBACK" in link.get("flags", ()):
        raise _nobody(ns, device, "is the loopback device: what comes in there was sent by the host itself", "at")
    raise _nobody(ns, device, f"is {'a ' + kind + ' device' if kind else 'a device of the machine'}")


def _nobody(ns: Namespace, device: str, what: str, instead: str = "") -> InputError:
    remedy = f"leave 'in {device}' out of FLOW: then a socket sends it" if instead else ELSEWHERE
    return InputError(f"--probe: {device} of {ns.name} {what}; no namespace here holds its other end", remedy=remedy)


def _by_port(ns: Namespace, bridge: dict[str, Any], links: dict[str, dict[str, Any]]) -> End:
    """Behind the first port of a bridge that is a veth of somebody here."""
    ports = [link for link in links.values() if link.get("master") == bridge["ifname"]]
    for port in ports:
        with suppress(InputError):
            if _kind(port) == "veth":
                return _peer(ns, port, str(bridge.get("address")))
    names = ", ".join(port["ifname"] for port in ports) or "none"
    raise _nobody(ns, bridge["ifname"], f"is a bridge, and none of its ports ({names}) is a veth of a namespace here")


def _peer(ns: Namespace, link: dict[str, Any], target: str) -> End:
    """The other end of a veth."""
    device = link["ifname"]
    if "link_netnsid" not in link and link.get("link"):  # both ends in this namespace
        here = Namespace(ns.name, f"/proc/self/fd/{ns.fd}")
        return _end(here, lambda peer: peer["ifname"] == link["link"], target)
    spaces = reachable()
    with ns.inside():
        numbers = {_nsid(space.fd): space for space in spaces}
    found = numbers.get(link.get("link_netnsid"))
    for space in spaces:
        if space is not found:
            space.close()
    if found is None:
        raise _nobody(ns, device, "is a veth whose peer lives in a namespace without name and process")
    return _end(found, lambda peer: peer["ifindex"] == link.get("link_index"), target)


def _end(space: Namespace, is_it: Callable[[dict[str, Any]], bool], target: str) -> End:
    peer = next((link for link in _links(space) if is_it(link)), None)
    if peer is None or "UP" not in peer.get("flags", ()):
        name, state = (peer["ifname"], "down") if peer is not None else ("the other end", "gone")
        where = space.name
        space.close()
        raise InputError(f"--probe: {name} in {where} is {state}", remedy="ip link set DEV up there, then again")
    return End(space, peer["ifname"], str(peer.get("address")), target)


def _links(ns: Namespace) -> list[dict[str, Any]]:
    with ns.inside():
        done = subprocess.run(["ip", "-j", "-d", "link", "show"], capture_output=True, text=True, check=False)
    try:
        return [link for link in json.loads(done.stdout) if isinstance(link, dict) and "ifname" in link]
    except ValueError:
        raise InputError(f"--probe: the devices of {ns.name} could not be read: {done.stderr.strip()}") from None


def _kind(link: dict[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


# -------------------------------------------------------------------------------------------------- the frame


def _frame(packet: dict[str, Any], end: End) -> bytes:
    """The flow's first packet as it comes by the wire, checksums and all."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    frame = Ether(src=end.source, dst=end.target)
    if not packet.get("src"):
        raise InputError("--probe: a packet that is received has a source address", remedy="write FLOW as SRC -> DST")
    ttl = packet.get("ttl") if packet.get("ttl") is not None else 64
    head: Any
    if ":" in packet["dst"]:
        head = IPv6(src=packet["src"], dst=packet["dst"], hlim=ttl, tc=packet.get("tos") or 0)
    else:
        head = IP(src=packet["src"], dst=packet["dst"], ttl=ttl, tos=packet.get("tos") or 0)
    whole = frame / head / _transport(packet)
    size = packet.get("len")
    lacking = (size or 0) - len(bytes(whole / b"")) + len(bytes(frame))
    return bytes(whole / bytes(lacking) if lacking > 0 else whole)


def _transport(packet: dict[str, Any]) -> Any:
    from scapy.layers.inet import ICMP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest

    proto, port, ident = packet["proto"], packet.get("sport"), packet.get("icmp_id")
    source, target = port if isinstance(port, int) else SENDER_PORT, packet.get("dport") or 0
    ident = ident if isinstance(ident, int) else 1
    if proto == "tcp":
        return TCP(
            sport=source,
            dport=target,
            flags=packet.get("flags") or "S",
            seq=packet.get("tcp_seq") or 1,
            ack=packet.get("tcp_ack") or 0,
        )
    if proto == "udp":
        return UDP(sport=source, dport=target) / b"x"
    if proto == "icmp":
        return ICMP(type=packet.get("type", 8), code=packet.get("code") or 0, id=ident, seq=1)
    if proto == "icmpv6" and packet.get("type", 128) == 128:
        return ICMPv6EchoRequest(id=ident, seq=1)
    raise InputError(f"--probe sends tcp, udp and echo requests, not {proto}")
