"""Sending packets into a lab and seeing what becomes of them, all namespaces from one process.

- Edges: an AF_PACKET socket on the far end injects frames to the host's address, sees what leaves, and answers ARP for
  every address except the silent ones.
- A tap per host: one AF_PACKET socket that sees every frame of every interface, in and out.
- Arrival: raw sockets get a copy of what is delivered locally, headers as NAT left them.
- Local sends: as a user, with mark, source and device, and the errno that the sender saw.

Nothing sleeps. All packets of a lab pass one per-CPU backlog queue (netif_rx(), net/core/dev.c), so the process pins
itself to one CPU; a fence frame that comes back through that queue proves that what was queued before it is done.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from . import netns
from .build import EDGE, Lab, swallow
from .packets import arp_reply, build, mac_bytes, number_of, parse, transport

ETH_P_ALL = 3
ETH_P_IP, ETH_P_ARP, ETH_P_FENCE = 0x0800, 0x0806, 0x88B5
PACKET_OUTGOING = 4
SO_MARK, SO_BINDTODEVICE, IP_TRANSPARENT, IP_FREEBIND, IP_PKTINFO = 36, 25, 19, 15, 8
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
TCP_REPAIR, TCP_INFO, TCP_SYN_SENT = 19, 11, 2
HOPS = 8  # fences after the last thing seen: more than the longest chain of devices that a packet can pass unseen
BATCH = 500  # packets read from one socket before the others have their turn
ENDLESS = 3000  # sightings caused by one packet after which it is taken to circulate for ever
NEIGHBOUR_WAIT = 3.6  # seconds: three probes one second apart (neigh/default), plus their timer's slack

_libc = ctypes.CDLL(None, use_errno=True)
EDGE_MAC = "02:ed:00:00:00:01"


class Endless(Exception):
    """Packets circulate in the lab and will not stop by themselves."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One IPv4 packet at one place. ``direction``: "in", "out", or "arrived" (a raw socket's copy)."""

    host: str
    dev: str
    direction: str
    packet: dict[str, Any]
    at: float
    data: bytes = field(repr=False, default=b"")


@dataclass(slots=True)
class Result:
    """What one packet caused. ``errno``: what the local sender got, None if nothing. ``sent``: as it was injected."""

    errno: int | None = None
    seen: list[Seen] = field(default_factory=list)

    def left(self) -> list[Seen]:
        """Packets that went out, in order."""
        return [s for s in self.seen if s.direction == "out"]

    def arrived(self) -> list[Seen]:
        """Packets delivered to a host's transport layer."""
        return [s for s in self.seen if s.direction == "arrived"]


def _packet_socket(protocol: int = ETH_P_ALL) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
    sock.setblocking(False)
    return sock


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> float:
    """The kernel's time of a packet (SCM_TIMESTAMPNS), so that sightings of several sockets can be put in order."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= 16:
            seconds, nanos = struct.unpack_from("=qq", data)
            return seconds + nanos / 1e9
    return time.time()


def _as_user(uid: int, gid: int) -> None:
    """The calling thread's file-system ids: what a new socket's opener is known by (xt_owner, sk_uid)."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)


class Wires:
    """The sockets of a lab. Use as a context manager, or call :meth:`close`.

    ``silent``: addresses nobody answers ARP for. ``arrivals``: IP protocols watched on the hosts.
    """

    def __init__(self, lab: Lab, silent: frozenset[str] | set[str] = frozenset(),
                 arrivals: tuple[int, ...] = (1, 6, 17), pin: bool = True,
                 neighbour_wait: float = NEIGHBOUR_WAIT) -> None:  # fmt: skip
        self.lab = lab
        self.silent = {socket.inet_aton(a) for a in silent}
        self.taps: dict[int, tuple[str, socket.socket]] = {}
        self.edges: dict[tuple[str, str], socket.socket] = {}
        self.edge_of: dict[int, tuple[str, str]] = {}
        self.raw: dict[int, tuple[str, socket.socket]] = {}
        self.inner_ports: dict[tuple[str, str], socket.socket] = {}
        self.kept: list[socket.socket] = []
        self.connections: dict[tuple[Any, ...], socket.socket] = {}
        self.openings: dict[tuple[Any, ...], socket.socket] = {}
        self.astray = False  # a kept socket has another address than its datagram was sent from
        self.begun: dict[tuple[Any, ...], float] = {}  # when each of them sent its SYN
        self.pending: dict[tuple[str, str, bytes], float] = {}
        self.neighbour_wait = neighbour_wait
        self.affinity = os.sched_getaffinity(0)
        self.fence_number = 0
        self.poll = select.poll()
        self.device_names: dict[tuple[str, int], str] = {}
        if pin:
            os.sched_setaffinity(0, {min(self.affinity)})
        try:
            self._open(arrivals)
        except BaseException:
            self.close()
            raise

    def _open(self, arrivals: tuple[int, ...]) -> None:
        edge_path = netns.path_of(f"{self.lab.prefix}-{EDGE}")
        netns.run(
            ["ip", "link", "add", "f0", "type", "veth", "peer", "name", "f1"],
            netns=f"{self.lab.prefix}-{EDGE}",
            check=False,
        )
        netns.run(
            ["ip", "-batch", "-"], "link set f0 arp off up\nlink set f1 arp off up\n", f"{self.lab.prefix}-{EDGE}"
        )
        with netns.inside(edge_path):
            for port, far in self.lab.edge_ports.items():
                sock = _packet_socket()
                sock.bind((far, ETH_P_ALL))
                self.edges[port] = sock
                self.edge_of[sock.fileno()] = port
                self.poll.register(sock, select.POLLIN)
            self.fence_out, self.fence_in = _packet_socket(0), _packet_socket(ETH_P_FENCE)
            self.fence_out.bind(("f0", 0))
            self.fence_in.bind(("f1", ETH_P_FENCE))
        for host in self.lab.topology.hosts:
            with netns.inside(netns.path_of(self.lab.netns(host.name))):
                tap = _packet_socket()
                self.taps[tap.fileno()] = (host.name, tap)
                self.poll.register(tap, select.POLLIN)
                for proto in arrivals:
                    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, proto)
                    raw.setblocking(False)
                    raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
                    raw.setsockopt(socket.SOL_IP, IP_PKTINFO, 1)
                    raw.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                    self.raw[raw.fileno()] = (host.name, raw)
                    self.poll.register(raw, select.POLLIN)
        self.settle()

    def one_cpu(self) -> dict[str, int]:
        """What a snapshot's meta.json may say of a lab whose packets all pass CPU 0: it is as if there were no other."""
        return {"cpus": 1} if os.sched_getaffinity(0) == {0} else {}

    def close(self) -> None:
        """Close every socket and unpin the process."""
        socks = [s for _, s in self.taps.values()] + [s for _, s in self.raw.values()]
        socks += [*self.edges.values(), *self.inner_ports.values(), *self.kept]
        for name in ("fence_out", "fence_in"):
            sock = getattr(self, name, None)
            if sock is not None:
                socks.append(sock)
        for sock in socks:
            sock.close()
        os.sched_setaffinity(0, self.affinity)

    def __enter__(self) -> Wires:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ sending

    def send(self, record: dict[str, Any]) -> Result:
        """Put one packet (the contract's record) into its host and wait until everything it causes has happened."""
        self._drain([])
        result = Result()
        packet = None
        if record.get("in") is not None:
            packet = build(record)
            self.inject(record["host"], record["in"], packet, record.get("mac"))
        else:
            result.errno = self.send_local(record)
        result.seen = self.settle()
        self._establish(result)
        for seen in result.arrived():
            if set(seen.packet.get("flags", "")) & set("SARF") == {"S"}:
                self._accept(seen)
        if packet is not None:
            self._forget_injection(result, packet, (record["host"], record["in"]))
        return result

    def _forget_injection(self, result: Result, packet: bytes, port: tuple[str, str]) -> None:
        """A frame injected through another member's device was seen going out there: that is our own doing."""
        segment = self.lab.topology.segment_of(*port)
        if segment is None:
            return
        for seen in result.seen:
            if seen.direction == "out" and seen.data == packet and (seen.host, seen.dev) in segment.members:
                result.seen.remove(seen)
                return

    def inject(self, host: str, dev: str, packet: bytes, mac: str | None = None) -> None:
        """A frame that arrives on an interface, from the edge or from the wire of a segment."""
        destination = mac_bytes(self.lab.macs[host, dev])
        address = socket.inet_ntoa(packet[16:20])
        if address == "255.255.255.255":
            destination = b"\xff" * 6
        elif 224 <= packet[16] <= 239:
            destination = b"\x01\x00\x5e" + bytes((packet[17] & 127, packet[18], packet[19]))
        frame = destination + mac_bytes(mac or EDGE_MAC) + b"\x08\0" + packet
        sock = self.edges.get((host, dev)) or self._inner_port(host, dev)
        sock.send(frame)

    def _inner_port(self, host: str, dev: str) -> socket.socket:
        """A socket on another member of the segment: frames sent there arrive at ``dev`` without passing a stack.

        From a bridge, where one of the members is: what another member sends would pass that bridge's rules.
        """
        sock = self.inner_ports.get((host, dev))
        if sock is None:
            segment = self.lab.topology.segment_of(host, dev)
            if segment is None:
                raise KeyError(f"{host}:{dev} is neither an edge nor in a segment")
            others = [m for m in segment.members if m != (host, dev)]
            bridges = [m for m in others if self.lab.topology.host(m[0]).interface(m[1]).kind == "bridge"]
            other = (bridges or others)[0]
            with netns.inside(netns.path_of(self.lab.netns(other[0]))):
                sock = _packet_socket(0)
                sock.bind((other[1], 0))
            self.inner_ports[host, dev] = sock
        return sock

    def send_local(self, record: dict[str, Any]) -> int | None:
        """Send as a process of the host would; the errno it saw, or None."""
        proto = number_of(record.get("proto", "icmp"))
        flow = (record["host"], record.get("sport"), record["dst"], record.get("dport"))
        if proto == 6 and flow in self.connections:  # a second connect() of the same flow is refused
            self.connections.pop(flow).close()
            self.openings.pop(flow, None)
        with netns.inside(netns.path_of(self.lab.netns(record["host"]))):
            try:
                uid = record.get("uid") or 0
                _as_user(uid, record.get("gid", uid) or 0)
                try:
                    sock = self._local_socket(proto, record)
                    scout = self._local_socket(proto, record) if proto in (17, 136) and not record.get("src") else None
                    stand_in = (
                        socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                        if proto == 6 and not is_connect(record)
                        else None
                    )
                finally:
                    _as_user(0, 0)
            except OSError as error:
                return error.errno or errno.EINVAL
            ready = self._repaired(stand_in, record) if stand_in is not None and record.get("src") else None
            source = self._source(scout, record) if scout is not None else None
            code = self._local_send(sock, proto, record)
            kept = self._keep(sock, stand_in, ready, proto, record, code)
            if kept is not None:
                self.astray = self.astray or source not in (None, kept.getsockname()[0])
                self.kept.append(kept)
                if proto == 6:
                    self.connections[flow] = kept
                    if is_connect(record):
                        self.openings[flow], self.begun[flow] = kept, time.monotonic()
            return code

    def _source(self, scout: socket.socket, record: dict[str, Any]) -> str | None:
        """The address that routing chooses now. A datagram changes that: while its gateway is asked for by ARP, another
        default route or leg is taken (fib_select_default(), fib_good_nh()), also by the connect() that follows."""
        with scout:
            try:
                self._options(scout, record)
                self._bind(scout, record, True)
                scout.connect((record["dst"], record["dport"]))
                return str(scout.getsockname()[0])
            except OSError:
                return None

    def _keep(self, sock: socket.socket, stand_in: socket.socket | None, ready: socket.socket | None, proto: int,
              record: dict[str, Any], code: int | None) -> socket.socket | None:  # fmt: skip
        """The sender's socket stays, so that answers find it; it never answers itself.

        A datagram socket becomes connected to its peer after the sending (before, it would be routed differently). A
        segment that goes through a raw socket has a connection beside it, made by TCP_REPAIR, which sends nothing.
        """
        if stand_in is not None:
            sock.close()
            if code in (None, errno.EPERM):
                return ready
            stand_in.close()
            return None
        if code in (None, errno.EPERM) and proto in (17, 136):
            try:
                sock.connect((record["dst"], record["dport"]))
                return sock
            except OSError:
                pass
        if is_connect(record) and code is None:
            return sock
        sock.close()
        return None

    def _establish(self, result: Result) -> None:
        """A connect() that was answered is a connection from now on, though its own socket saw nothing of the answer:
        errors must not end it any more. TCP_REPAIR makes the other socket without sending."""
        for seen in result.arrived():
            packet = seen.packet
            flow = (seen.host, packet.get("dport"), packet["src"], packet.get("sport"))
            opening = self.openings.get(flow)
            if opening is None or packet.get("flags") != "SA" or opening.getsockname()[0] != packet["dst"]:
                continue  # an answer that NAT did not turn back is for another address than the socket's
            if self._ended(flow):
                continue
            del self.openings[flow]
            opening.close()
            with netns.inside(netns.path_of(self.lab.netns(seen.host))):
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                record = {"src": packet["dst"], "sport": flow[1], "dst": flow[2], "dport": flow[3]}
                kept = self._repaired(sock, record)
            if kept is not None:
                self.kept.append(kept)
                self.connections[flow] = kept

    def _ended(self, flow: tuple[Any, ...]) -> bool:
        """Whether an error has ended a connect() that was under way; then it is none any more."""
        if self.openings[flow].getsockopt(socket.IPPROTO_TCP, TCP_INFO, 1) == bytes([TCP_SYN_SENT]):
            return False
        del self.openings[flow]
        return True

    def oldest_opening(self) -> float:
        """Seconds since the oldest unanswered connect() sent its SYN; it sends again after one (TCP_TIMEOUT_INIT)."""
        return max((time.monotonic() - self.begun[flow] for flow in self.openings), default=0.0)

    def outlast(self, seconds: float) -> int:
        """A silent connection in place of each unanswered connect() that is older, so that it never sends again.

        To the lab they are alike but for ICMP errors, which end the one and not the other. Returns how many were
        replaced; one without a way to its peer stays as it is.
        """
        count = 0
        for flow, opening in list(self.openings.items()):
            if time.monotonic() - self.begun[flow] < seconds:
                continue
            if self._ended(flow):
                continue
            record = {"src": opening.getsockname()[0], "sport": flow[1], "dst": flow[2], "dport": flow[3]}
            with netns.inside(netns.path_of(self.lab.netns(flow[0]))):
                trial = self._repaired(socket.socket(socket.AF_INET, socket.SOCK_STREAM), {**record, "sport": 0})
                if trial is None:
                    continue
                trial.close()
                opening.close()
                kept = self._repaired(socket.socket(socket.AF_INET, socket.SOCK_STREAM), record)
            del self.openings[flow]
            if kept is not None:
                self.kept.append(kept)
                self.connections[flow] = kept
                count += 1
        return count

    def _accept(self, seen: Seen) -> None:
        """The connection that a silent listener's SYN opens, silent as well; none where there is no way back."""
        packet = seen.packet
        flow = (seen.host, packet["dport"], packet["src"], packet["sport"])
        places = (f"tcp {packet['dport']}", f"tcp {packet['dst']}:{packet['dport']}")
        if flow in self.connections or not any(p in self.lab.topology.host(seen.host).listen for p in places):
            return
        record = {"src": packet["dst"], "sport": flow[1], "dst": flow[2], "dport": flow[3]}
        with netns.inside(netns.path_of(self.lab.netns(seen.host))):
            kept = self._repaired(socket.socket(socket.AF_INET, socket.SOCK_STREAM), record)
        if kept is not None:
            self.kept.append(kept)
            self.connections[flow] = kept

    def _repaired(self, sock: socket.socket, record: dict[str, Any]) -> socket.socket | None:
        """The socket as an established connection that never answers; None (closed) where there cannot be one."""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            swallow(sock)
            self._bind(sock, record, True)
            sock.connect((record["dst"], record["dport"]))
            return sock
        except OSError:  # no way back to the peer, or a listener has the port
            sock.close()
            return None

    def _local_socket(self, proto: int, record: dict[str, Any]) -> socket.socket:
        if proto == 17:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if proto == 136:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)
        if is_connect(record):
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, proto)

    def _local_send(self, sock: socket.socket, proto: int, record: dict[str, Any]) -> int | None:
        sock.setblocking(False)
        try:
            self._options(sock, record)
            if record.get("ttl"):
                sock.setsockopt(socket.SOL_IP, socket.IP_TTL, record["ttl"])
                if sock.type != socket.SOCK_STREAM:
                    sock.setsockopt(socket.SOL_IP, socket.IP_MULTICAST_TTL, record["ttl"])
            sock.setsockopt(socket.SOL_IP, 10, 2 if record.get("df", proto == 6) else 0)  # IP_MTU_DISCOVER
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            dst = record["dst"]
            with_port = proto in (17, 136) or is_connect(record)
            if record.get("src") or with_port:
                self._bind(sock, record, with_port)
            if is_connect(record):
                swallow(sock)
                sock.connect((dst, record["dport"]))
                return None
            if with_port:
                head = 8 if proto in (17, 136) else 0
                sock.sendto(transport(record, proto)[head:], (dst, record["dport"]))
            else:
                sock.sendto(transport(record, proto), (dst, 0))
        except BlockingIOError:
            return None  # connect() under way
        except OSError as error:
            return error.errno
        return None

    @staticmethod
    def _options(sock: socket.socket, record: dict[str, Any]) -> None:
        """What a route depends on."""
        if record.get("mark"):
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, record["mark"])
        if record.get("oif"):
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, record["oif"].encode() + b"\0")
        if record.get("tos"):
            sock.setsockopt(socket.SOL_IP, socket.IP_TOS, record["tos"])

    def _device(self, host: str, index: int) -> str:
        """Interface name of an index."""
        name = self.device_names.get((host, index))
        if name is None:
            with netns.inside(netns.path_of(self.lab.netns(host))):
                try:
                    name = socket.if_indextoname(index)
                except OSError:
                    name = ""
            self.device_names[host, index] = name
        return name

    @staticmethod
    def _bind(sock: socket.socket, record: dict[str, Any], with_port: bool) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.type == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if record.get("transparent"):
            sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        sock.bind((record.get("src") or "0.0.0.0", record.get("sport", 0) if with_port else 0))

    # ----------------------------------------------------------------------------------------- settling

    def settle(self) -> list[Seen]:
        """Everything that is seen until nothing more can come.

        :raises Endless: If it goes on and on; the lab's links are down then, for the packets would keep a CPU busy.
        """
        seen: list[Seen] = []
        quiet = 0
        while quiet < HOPS:
            self._fence()
            if self._drain(seen):
                quiet = 0
                if len(seen) > ENDLESS:
                    self._cut()
                    raise Endless(f"more than {ENDLESS} sightings of one packet and what it caused")
                continue
            quiet += 1
            if quiet == HOPS and self._waiting():
                self.poll.poll(5)
                quiet = 0
        seen.sort(key=lambda s: s.at)
        return seen

    def _cut(self) -> None:
        """Take every link down: the only thing that ends a packet whose TTL is raised on its way."""
        for host in self.lab.topology.hosts:
            lines = "".join(f"link set {i.name} down\n" for i in host.interfaces)
            netns.run(["ip", "-batch", "-"], lines + "link set lo down\n", self.lab.netns(host.name), check=False)

    def _fence(self) -> None:
        """Send a frame through the receive queue and wait for it; again if need be, since a device that has just come
        up may still throw frames away (its queue is switched on by the link watcher)."""
        self.fence_number += 1
        number = struct.pack("!Q", self.fence_number)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                self.fence_out.send(b"\x02\0\0\0\0\1\x02\0\0\0\0\2\x88\xb5" + number + bytes(38))
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                time.sleep(0.001)  # the queue is full of what is under way
                continue
            patience = time.monotonic() + 0.05
            while time.monotonic() < patience:
                try:
                    data, place = self.fence_in.recvfrom(128)
                except BlockingIOError:
                    select.select([self.fence_in], [], [], 0.05)
                    continue
                if place[2] != PACKET_OUTGOING and data[14:22] == number:
                    return
        raise TimeoutError("the fence frame did not come back: the kernel's receive queue is stuck")

    def _waiting(self) -> bool:
        """Whether an ARP request is still unanswered: the packets behind it are neither sent nor given up."""
        now = time.monotonic()
        for key, since in list(self.pending.items()):
            if now - since > self.neighbour_wait:
                del self.pending[key]
        return bool(self.pending)

    def _drain(self, seen: list[Seen]) -> bool:
        """Read every socket empty. True if anything but our own noise was there."""
        found = False
        for fd, _ in self.poll.poll(0):
            if fd in self.edge_of:
                found |= self._drain_edge(fd)
            elif fd in self.taps:
                found |= self._drain_tap(fd, seen)
            else:
                found |= self._drain_raw(fd, seen)
        return found

    def _drain_edge(self, fd: int) -> bool:
        port = self.edge_of[fd]
        sock = self.edges[port]
        answered = False
        while True:
            try:
                frame, place = sock.recvfrom(70000)
            except BlockingIOError:
                return answered
            if place[2] == PACKET_OUTGOING or frame[12:14] != b"\x08\x06":
                continue
            if frame[38:42] in self.silent:
                continue
            reply = arp_reply(frame, mac_bytes(EDGE_MAC))
            if reply is not None:
                sock.send(reply)
                answered = True

    def _drain_tap(self, fd: int, seen: list[Seen]) -> bool:
        host, sock = self.taps[fd]
        found = False
        for _ in range(BATCH):
            try:
                frame, ancillary, _, place = sock.recvmsg(70000, 256)
            except BlockingIOError:
                return found
            dev, protocol, kind = place[0], place[1], place[2]
            if protocol == ETH_P_ARP:
                found |= self._note_arp(host, dev, frame, kind)
            elif protocol == ETH_P_IP:
                found = True
                try:
                    packet = parse(frame[14:])
                except (ValueError, struct.error):
                    continue
                direction = "out" if kind == PACKET_OUTGOING else "in"
                seen.append(Seen(host, dev, direction, packet, _stamp(ancillary), frame[14:]))
        return found

    def _note_arp(self, host: str, dev: str, frame: bytes, kind: int) -> bool:
        if frame[20:22] == b"\0\1" and kind == PACKET_OUTGOING:
            if frame[28:32] != frame[38:42]:
                self.pending.setdefault((host, dev, frame[38:42]), time.monotonic())
            return False
        if frame[20:22] == b"\0\2" and kind != PACKET_OUTGOING:
            if frame[38] != 127:  # arp_process() drops an answer to a loopback address unless route_localnet is set
                self.pending.pop((host, dev, frame[28:32]), None)
            return True
        return False

    def _drain_raw(self, fd: int, seen: list[Seen]) -> bool:
        host, sock = self.raw[fd]
        found = False
        for _ in range(BATCH):
            try:
                data, ancillary, _, _ = sock.recvmsg(70000, 256)
            except BlockingIOError:
                return found
            except OSError:
                continue  # an error queued on the socket by an ICMP message: reading it clears it
            found = True
            index = next(
                (struct.unpack_from("=i", d)[0] for lv, t, d in ancillary if (lv, t) == (socket.SOL_IP, IP_PKTINFO)), 0
            )
            try:
                seen.append(Seen(host, self._device(host, index), "arrived", parse(data), _stamp(ancillary), data))
            except (ValueError, struct.error):
                continue
        return found


def is_connect(record: dict[str, Any]) -> bool:
    """Whether a local record is a connect(): a TCP SYN, made by the kernel; other segments go through a raw socket."""
    return number_of(record.get("proto", "icmp")) == 6 and (record.get("flags") or "S") == "S"
