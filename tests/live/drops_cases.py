"""Causes of dropped packets: how each is provoked, the reason the kernel must give, and the explanation that must follow.

``reason``: without the common prefix. ``code`` and ``says``: what the explanation must be and contain. ``setup``: shell
lines ``HOST: COMMAND`` run before the watch begins; ``act`` sends.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from .drops_lab import BPF_XDP, MAC, PEER, SCHED_CLS, TCX_EGRESS, TCX_INGRESS, XDP, Lab, Peer

SILENT = "10.7.2.9"  # nobody refuses what is sent there
Act = Callable[[Lab], None]


class Case(NamedTuple):
    name: str
    reason: str
    act: Act
    code: str = "kernel_drop"
    says: str = ""
    setup: tuple[str, ...] = ()
    before: Act | None = None  # sockets that wait, programs that sit on devices
    host: str = "r"
    v6: bool = False
    wait: float = 0.4
    to: str = ""  # the destination that tells it from other packets with this reason


def ip(**keys: Any) -> Any:
    from scapy.layers.inet import IP

    return IP(**({"src": "10.7.1.2", "dst": "10.7.1.1"} | keys))


def ip6(**keys: Any) -> Any:
    from scapy.layers.inet6 import IPv6

    return IPv6(**({"src": "fd07:1::2", "dst": "fd07:1::1"} | keys))


def udp(**keys: Any) -> Any:
    from scapy.layers.inet import UDP

    return UDP(**({"sport": 5000, "dport": 5001} | keys)) / b"12345678"


def tcp(**keys: Any) -> Any:
    from scapy.layers.inet import TCP

    return TCP(**({"sport": 5000, "dport": 5001, "flags": "S"} | keys))


def icmp(**keys: Any) -> Any:
    from scapy.layers.inet import ICMP

    return ICMP(**keys) / b"12345678"


def frame(make: Callable[[], Any], **how: Any) -> Act:
    """One frame from the client's wire."""
    return lambda lab: lab.frame(make(), **how)


def sends(port: int, dst: str = "10.7.1.1", host: str = "c", count: int = 1, data: bytes = b"x") -> Act:
    return lambda lab: lab.udp(host, dst, port, data, count)


def waits(proto: str, port: int, address: str = "", host: str = "r") -> Act:
    return lambda lab: lab.listen(host, proto, port, address) and None


def segments(script: Callable[[Peer], None], **how: Any) -> Act:
    """A TCP connection to port 80 of the router, made, and then what the script sends."""
    return lambda lab: script(Peer(lab, **how).connect())


def _fragments(*parts: tuple[int, bool, bytes], ident: int = 7) -> Act:
    def act(lab: Lab) -> None:
        for offset, more, data in parts:
            lab.frame(ip(id=ident, flags="MF" if more else 0, frag=offset // 8, proto=17) / data)

    return act


def _far(lab: Lab) -> None:
    lab.frame(ip(id=1, flags="MF", proto=17) / bytes(16))
    for ident in range(2, 8):
        lab.frame(ip(id=ident, flags="MF", proto=17) / bytes(16))
    lab.frame(ip(id=1, flags="MF", frag=2, proto=17) / bytes(16))


def _filtered(kind: str) -> Act:
    def act(lab: Lab) -> None:
        from nattrace.tracer.lab.build import swallow

        swallow(lab.listen("r", kind, 5001))

    return act


def _small_buffer(lab: Lab) -> None:
    lab.listen("r", "udp", 5001).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)


def _closes_unread(lab: Lab) -> None:
    sock = lab.listen("r", "udp", 5001)
    lab.udp("c", "10.7.1.1", 5001)
    time.sleep(0.05)
    sock.close()


def _small_capture(lab: Lab) -> None:
    sock = lab.socket("r", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    sock.bind(("rc", 0))


def _third_ack(lab: Lab) -> None:
    """The last of four handshakes ends when three connections wait already: one more than the listener takes."""
    lab.listen("r", "tcp", 80, backlog=2)
    peers = [Peer(lab) for _ in range(4)]
    for turn in ("S0", "S1", "A0", "S2", "A1", "S3", "A2", "A3"):  # at most two are half open: else cookies come
        peer = peers[int(turn[1])]
        if turn[0] == "S":
            peer.send("S")
            heard = peer.hear()
            peer.seq, peer.ack = peer.seq + 1, heard.seq + 1
        else:
            peer.send("A")
            time.sleep(0.02)


def _md5_key(lab: Lab, port: int = 80) -> None:
    sock = lab.listen("r", "tcp", port)
    address = struct.pack("=HH4s120x", socket.AF_INET, 0, socket.inet_aton(PEER))
    sock.setsockopt(socket.IPPROTO_TCP, 14, address + struct.pack("=BBHi80s", 0, 0, 3, 0, b"key"))  # TCP_MD5SIG


def _min_ttl(lab: Lab) -> None:
    lab.listen("r", "tcp", 80).setsockopt(socket.SOL_IP, 21, 200)  # IP_MINTTL


def _full_window(peer: Peer) -> None:
    data = bytes(1400)
    for _ in range(400):
        peer.send("A", data=data)
        peer.seq += len(data)
    time.sleep(0.1)
    peer.send("A", data=data)


def _twice(ahead: int, data: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.send("A", seq=peer.seq + ahead, data=data)
        time.sleep(0.05)
        peer.send("A", seq=peer.seq + ahead, data=data)

    return script


def _older(peer: Peer) -> None:
    heard = dict(peer.answer.options)["Timestamp"][0]
    peer.send("A", data=b"new", options=[("Timestamp", (100500, heard))])
    time.sleep(0.05)
    peer.send("A", seq=peer.seq + 3, data=b"old", options=[("Timestamp", (90000, heard))])


def _no_echo(lab: Lab) -> None:
    """The third segment of a handshake echoes a timestamp that the second did not have."""
    peer = Peer(lab, options=[("Timestamp", (100000, 0))])
    peer.send("S")
    heard = peer.hear()
    echo = (dict(heard.options)["Timestamp"][0] + 0x1000000) & 0xFFFFFFFF
    peer.send("A", seq=peer.seq + 1, ack=heard.seq + 1, options=[("Timestamp", (100500, echo))])


def _raw_syn(port: int) -> Act:
    """A SYN as it is, from a program of the client: two of one port's tuple need no two sockets."""

    def act(lab: Lab) -> None:
        with (
            lab.socket("c", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW, keep=False) as sock,
            suppress(OSError),
        ):
            sock.sendto(bytes(ip(dst=SILENT) / tcp(sport=port, dport=25)), (SILENT, 0))

    return act


def _lsrr() -> Any:
    from scapy.layers.inet import IPOption_LSRR

    return IPOption_LSRR(routers=["10.7.2.2"])


def _echo6(**keys: Any) -> Any:
    from scapy.layers.inet6 import ICMPv6EchoRequest

    return ICMPv6EchoRequest(**keys)


def _closing(lab: Lab) -> None:
    """close() without linger: FIN_WAIT, data for nobody is answered with a reset."""
    sock = lab.listen("r", "tcp", 80)
    peer = Peer(lab).connect()
    taken, _ = sock.accept()
    taken.close()
    time.sleep(0.05)
    peer.send("A", ack=peer.ack + 1, data=b"more")


def _tun(lab: Lab, tap: bool = False) -> socket.socket:
    import fcntl
    import os

    with lab.at("r"):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"t0", 0x1000 | (2 if tap else 1)))  # TUNSETIFF
    lab.stack.callback(os.close, fd)
    lab.run("r", "ip link set t0 txqueuelen 2 up; ip addr add 10.7.3.1/24 dev t0")
    return fd


def _tun_full(lab: Lab) -> None:
    _tun(lab)


def _tap_txfilter(lab: Lab) -> None:
    import fcntl

    fd = _tun(lab, tap=True)
    fcntl.ioctl(fd, 0x400454D1, struct.pack("=HH6s", 0, 1, bytes.fromhex("020000000909")))  # TUNSETTXFILTER
    lab.run("r", "ip neigh add 10.7.3.2 lladdr 02:00:00:00:07:07 dev t0")


def _tap_filter(lab: Lab) -> None:
    import fcntl
    import os

    from nattrace.tracer.live import bpfsys

    fd = _tun(lab)
    code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
    prog = bpfsys.prog_load(1, code, "ls_filter")  # BPF_PROG_TYPE_SOCKET_FILTER
    lab.stack.callback(os.close, prog)
    fcntl.ioctl(fd, 0x800454E1, struct.pack("i", prog))  # TUNSETFILTEREBPF


def _bridge(lab: Lab) -> None:
    lab.run("r", "ip link add br0 type bridge; ip link set br0 up; ip addr flush dev rc; ip link set rc master br0")


def _vxlan(flags: int, vni: int) -> Act:
    def act(lab: Lab) -> None:
        inner = bytes.fromhex("020000000303 020000000404 0800") + bytes(ip() / udp())
        from scapy.layers.inet import UDP

        lab.frame(ip() / UDP(sport=5000, dport=4789, chksum=0) / (struct.pack(">II", flags << 24, vni << 8) + inner))

    return act


def _ndisc(**keys: Any) -> Callable[[], Any]:
    def make() -> Any:
        from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr

        hlim, code, tgt = keys.get("hlim", 255), keys.get("code", 0), keys.get("tgt", "fd07:1::1")
        option = keys["option"] if "option" in keys else ICMPv6NDOptSrcLLAddr(lladdr=MAC["c0"])
        packet = ip6(hlim=hlim) / ICMPv6ND_NS(tgt=tgt, code=code)
        return packet / option if option is not None else packet

    return make


def _ndisc_fragment() -> Any:
    from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6ExtHdrFragment

    plain = ip6(hlim=255) / ICMPv6ND_NS(tgt="fd07:1::1") / ICMPv6NDOptSrcLLAddr(lladdr=MAC["c0"])
    body = bytes(plain)[40:]
    return ip6(hlim=255, nh=44) / IPv6ExtHdrFragment(nh=58, offset=0, m=0, id=5) / body


def _bad_extension() -> Any:
    return ip6(nh=60) / (bytes([17, 0, 0xC5, 4, 0, 0, 0, 0]) + bytes(udp()))


def _long_option() -> Any:
    return ip6(nh=60) / (bytes([17, 0, 0xC5, 200, 0, 0, 0, 0]) + bytes(udp()))


NFT = "r: iptables-nft "
LEGACY = "r: iptables-legacy "
TRACKED = NFT + "-A OUTPUT -m conntrack --ctstate NEW -j ACCEPT"  # tracking is on where a rule asks for it
SILENCE = f"r: ip neigh add {SILENT} lladdr {MAC['s0']} dev rs"
HEAR80 = waits("tcp", 80)

ROUTING = (
    Case("udp to a closed port", "NO_SOCKET", sends(5001), "no_listener", "Nothing on r listens on udp port 5001"),
    Case("tcp to a closed port", "NO_SOCKET", frame(lambda: ip() / tcp()), "no_listener", "listens on tcp port 5001"),
    Case("udp bound to loopback only", "NO_SOCKET", sends(5001), "listener_bound_elsewhere", "only at 127.0.0.1",
         before=waits("udp", 5001, "127.0.0.1")),
    Case("tcp bound to the other address", "NO_SOCKET", frame(lambda: ip() / tcp()), "listener_bound_elsewhere", "only at 10.7.2.1",
         before=waits("tcp", 5001, "10.7.2.1")),
    Case("an ack for no connection", "NO_SOCKET", frame(lambda: ip() / tcp(flags="A")), "no_listener"),
    Case("ip checksum", "IP_CSUM", frame(lambda: ip(chksum=0x1234) / udp()), "bad_ip_header", "checksum of the IP header is wrong"),
    Case("ip header too short", "IP_INHDR", frame(lambda: ip(ihl=4) / udp()), "bad_ip_header", "IP header"),
    Case("ip length below its header", "IP_INHDR", frame(lambda: ip(len=10) / udp()), "bad_ip_header"),
    Case("ip length beyond the frame", "PKT_TOO_SMALL", frame(lambda: ip(len=900) / udp()), says="shorter than"),
    Case("ttl used up", "IP_INHDR", frame(lambda: ip(dst="10.7.2.2", ttl=1) / udp()), "ttl_exceeded", "ttl is used up at r"),
    Case("source route refused", "NOT_SPECIFIED", frame(lambda: ip(dst="10.7.1.1", options=[_lsrr()]) / udp()),
         "bad_ip_header", "source route", setup=("r: sysctl -qw net.ipv4.conf.all.accept_source_route=0",)),
    Case("reverse path filter", "IP_RPFILTER", frame(lambda: ip(src="10.7.2.99") / udp()), "rp_filter", "would leave by rs",
         ("r: sysctl -qw net.ipv4.conf.all.rp_filter=1",)),
    Case("reverse path filter, no route at all", "IP_RPFILTER", frame(lambda: ip(src="10.99.0.1") / udp()), "rp_filter",
         "there is no route to the source", ("r: sysctl -qw net.ipv4.conf.rc.rp_filter=2",)),
    Case("its own address as source", "IP_LOCAL_SOURCE", frame(lambda: ip(src="10.7.1.1", dst="10.7.2.2") / udp()),
         "accept_local_off", "10.7.1.1 is an address of r itself"),
    Case("multicast as source", "IP_INVALID_SOURCE", frame(lambda: ip(src="224.0.0.9") / udp()), "martian_source", "cannot be a sender"),
    Case("broadcast as source", "IP_INVALID_SOURCE", frame(lambda: ip(src="255.255.255.255") / udp()), "martian_source"),
    Case("loopback as destination", "IP_LOCALNET", frame(lambda: ip(dst="127.0.0.1") / udp()), "route_localnet_off", "127.0.0.0/8"),
    Case("loopback as source", "IP_LOCALNET", frame(lambda: ip(src="127.0.0.5") / udp()), "route_localnet_off"),
    Case("destination zero", "IP_INVALID_DEST", frame(lambda: ip(dst="0.0.0.0") / udp()), "martian_destination"),
    Case("forwarding off", "IP_INADDRERRORS", frame(lambda: ip(dst="10.7.2.2") / udp()), "ip_forward_disabled", "does not forward",
         ("r: sysctl -qw net.ipv4.ip_forward=0",)),
    Case("forwarding off on one interface", "IP_INADDRERRORS", frame(lambda: ip(dst="10.7.2.2") / udp()),
         "forwarding_disabled_on_interface", "what comes in by rc", ("r: sysctl -qw net.ipv4.conf.rc.forwarding=0",)),
    Case("unreachable route", "NOT_SPECIFIED", frame(lambda: ip(dst="10.8.0.1") / udp()), "route_unreachable", "unreachable",
         ("r: ip route add unreachable 10.8.0.0/16",)),
    Case("prohibit route", "NOT_SPECIFIED", frame(lambda: ip(dst="10.8.0.1") / udp()), "route_prohibit", "prohibit",
         ("r: ip route add prohibit 10.8.0.0/16",)),
    Case("blackhole route", "NOT_SPECIFIED", frame(lambda: ip(dst="10.8.0.1") / udp()), "route_blackhole", "blackhole",
         ("r: ip route add blackhole 10.8.0.0/16",)),
    Case("no route", "IP_INNOROUTES", frame(lambda: ip(dst="10.99.9.9") / udp()), "no_route", "no way to 10.99.9.9"),
    Case("unknown protocol", "IP_NOPROTO", frame(lambda: ip(proto=200) / b"12345678"), "no_protocol", "protocol number"),
    Case("somebody else's frame", "OTHERHOST", frame(lambda: ip() / udp(), dst="02:00:00:00:09:09"), "dropped_not_for_us",
         "another machine's hardware address", ("r: ip link set rc promisc on",)),
    Case("unicast in a broadcast frame", "UNICAST_IN_L2_MULTICAST", frame(lambda: ip() / udp(), dst="ff:ff:ff:ff:ff:ff"),
         says="refuse those", setup=("r: sysctl -qw net.ipv4.conf.all.drop_unicast_in_l2_multicast=1",)),
    Case("too big for the way on", "PKT_TOO_BIG", frame(lambda: ip(dst="10.7.2.2", flags="DF") / udp() / bytes(1200)),
         "fragmentation_needed", "mtu 1000", ("r: ip link set rs mtu 1000",)),
    Case("unknown frame type", "UNHANDLED_PROTO", frame(lambda: ip() / udp(), kind=0x88B5), says="ethertype"),
    Case("ipsec demanded", "XFRM_POLICY", frame(lambda: ip() / udp()), says="IPsec policy", setup=("r: ip xfrm policy add dir in action block",),
         before=waits("udp", 5001)),
    Case("ipsec demanded, forwarded", "XFRM_POLICY", frame(lambda: ip(dst="10.7.2.2") / udp()), says="IPsec policy",
         setup=("r: ip xfrm policy add dir fwd action block",)),
)  # fmt: skip

NEIGHBOURS = (
    Case("nobody answers, forwarded", "NEIGH_FAILED", frame(lambda: ip(dst="10.7.2.77") / udp()), "neighbour_failed",
         "answers for 10.7.2.77", ("r: sysctl -qw net.ipv4.neigh.rs.retrans_time_ms=100",), wait=0.9),
    Case("the gateway does not answer", "NEIGH_FAILED", frame(lambda: ip(dst="10.9.0.1") / udp()), "neighbour_failed",
         "answers for 10.7.2.99, the next hop",
         ("r: ip route add 10.9.0.0/16 via 10.7.2.99", "r: sysctl -qw net.ipv4.neigh.rs.retrans_time_ms=100"), wait=0.9),
    Case("nobody answers, sent", "NEIGH_FAILED", sends(5001, "10.7.1.88"), "neighbour_failed", "answers for 10.7.1.88",
         ("c: sysctl -qw net.ipv4.neigh.c0.retrans_time_ms=100",), host="c", wait=0.9),
    Case("too many wait", "NEIGH_QUEUEFULL", sends(5001, "10.7.2.77", count=40, data=bytes(900)), "neighbour_failed", "answers for 10.7.2.77",
         ("r: sysctl -qw net.ipv4.neigh.rs.unres_qlen_bytes=3000",)),
)  # fmt: skip

FRAGMENTS = (
    Case("the rest never comes", "FRAG_REASM_TIMEOUT", _fragments((0, True, bytes(16))), says="did not come in time",
         setup=("r: sysctl -qw net.ipv4.ipfrag_time=1",), wait=2.0),
    Case("the same fragment twice", "DUP_FRAG", _fragments((0, True, bytes(16)), (0, True, bytes(16))), says="is there already"),
    Case("fragments too far apart", "FRAG_TOO_FAR", _far, says="between two fragments", setup=("r: sysctl -qw net.ipv4.ipfrag_max_dist=1",)),
)  # fmt: skip

TRANSPORT = (
    Case("udp checksum", "UDP_CSUM", frame(lambda: ip() / udp(chksum=0x1234)), says="UDP checksum", before=waits("udp", 5001)),
    Case("udp length", "PKT_TOO_SMALL", frame(lambda: ip() / udp(len=4)), says="shorter", before=waits("udp", 5001)),
    Case("tcp checksum", "TCP_CSUM", frame(lambda: ip() / tcp(chksum=0x1234)), says="TCP checksum", before=waits("tcp", 5001)),
    Case("tcp header length", "PKT_TOO_SMALL", frame(lambda: ip() / tcp(dataofs=4)), says="shorter", before=waits("tcp", 5001)),
    Case("icmp checksum", "ICMP_CSUM", frame(lambda: ip() / icmp(type=8, chksum=0x1234)), says="ICMP checksum"),
    Case("icmp of an unknown type", "UNHANDLED_PROTO", frame(lambda: ip() / icmp(type=44))),
    Case("icmp to a broadcast address", "INVALID_PROTO", frame(lambda: ip(dst="10.7.1.255") / icmp(type=8), dst="ff:ff:ff:ff:ff:ff"),
         says="broadcast"),
    Case("udp socket filter", "SOCKET_FILTER", sends(5001), says="attached to its socket", before=_filtered("udp")),
    Case("tcp socket filter", "SOCKET_FILTER", frame(lambda: ip() / tcp()), says="attached to its socket", before=_filtered("tcp")),
    Case("udp buffer full", "SOCKET_RCVBUFF", sends(5001, count=40, data=bytes(900)), says="receive buffer is full", before=_small_buffer),
    Case("closed unread", "NOT_SPECIFIED", _closes_unread, "delivered_local", "before the program read it"),
    Case("a capture is too slow", "PACKET_SOCK_ERROR", sends(5001, count=40, data=bytes(900)), says="capture", before=_small_capture),
)  # fmt: skip

TCP = (
    Case("accept queue full", "TCP_LISTEN_OVERFLOW", _third_ack, says="does not accept fast enough", wait=0.8),
    Case("syn and fin", "TCP_FLAGS", frame(lambda: ip() / tcp(flags="SF", dport=80)), says="flags", before=HEAR80),
    Case("no ack flag", "TCP_FLAGS", segments(lambda p: p.send("P", data=b"x")), says="flags", before=HEAR80),
    Case("reset of a listener", "TCP_RESET", frame(lambda: ip() / tcp(flags="R", dport=80)), says="reset", before=HEAR80),
    Case("reset not quite right", "TCP_RESET", segments(lambda p: p.send("R", seq=p.seq + 10)), says="reset", before=HEAR80),
    Case("syn in a connection", "TCP_INVALID_SYN", segments(lambda p: p.send("S", seq=p.seq + 10)), says="SYN in the middle", before=HEAR80),
    Case("before the window", "TCP_OLD_SEQUENCE", segments(lambda p: p.send("A", seq=p.seq - 2000, data=bytes(10))), says="late copy", before=HEAR80),
    Case("beyond the window", "TCP_INVALID_SEQUENCE", segments(lambda p: p.send("A", seq=p.seq + 900000, data=bytes(10))),
         says="outside of the receive window", before=HEAR80),
    Case("data that came before", "TCP_OLD_DATA", segments(_twice(0, b"1234")),
         says="has come before", before=HEAR80),
    Case("out of order twice", "TCP_OFOMERGE", segments(_twice(100, bytes(10))),
         says="out of order", before=HEAR80),
    Case("ack of unsent data", "TCP_ACK_UNSENT_DATA", segments(lambda p: p.send("A", ack=p.ack + 5000)), says="never sent", before=HEAR80),
    Case("ack from long ago", "TCP_TOO_OLD_ACK", segments(lambda p: p.send("A", ack=p.ack - 0x40000000, window=50000)), says="long ago", before=HEAR80),
    Case("older timestamp", "TCP_RFC7323_PAWS", segments(_older, options=[("Timestamp", (100000, 0))]), says="timestamp", before=HEAR80),
    Case("an echo of no timestamp", "TCP_RFC7323_TSECR", _no_echo, says="never sent", before=HEAR80),
    Case("a ttl below the least", "TCP_MINTTL", lambda lab: Peer(lab).send("S", ttl=10), says="ttl is lower", before=_min_ttl),
    Case("no room left", "TCP_INVALID_END_SEQUENCE", segments(_full_window), says="beyond the receive window", before=HEAR80, wait=0.8),
    Case("data after close", "TCP_ABORT_ON_DATA", _closing, says="program is gone"),
    Case("unsigned, md5 wanted", "TCP_MD5NOTFOUND", lambda lab: Peer(lab).send("S"), says="demands MD5", before=_md5_key),
    Case("signed, not wanted", "TCP_MD5UNEXPECTED", lambda lab: Peer(lab, options=[(19, bytes(16))]).send("S"), says="expects none", before=HEAR80),
    Case("signed wrongly", "TCP_MD5FAILURE", lambda lab: Peer(lab, options=[(19, bytes(16))]).send("S"), says="signature is wrong", before=_md5_key),
    Case("signed twice", "TCP_AUTH_HDR", lambda lab: Peer(lab, options=[(19, bytes(16)), (29, bytes(14))]).send("S"), says="signed twice", before=HEAR80),
)  # fmt: skip

NETFILTER = (
    Case("rule in INPUT", "NETFILTER_DROP", sends(5001), "dropped_by_rule", "filter INPUT", (NFT + "-A INPUT -p udp --dport 5001 -j DROP",)),
    Case("rule in FORWARD", "NETFILTER_DROP", sends(5001, "10.7.2.2"), "dropped_by_rule", "filter FORWARD", (NFT + "-A FORWARD -p udp -j DROP",)),
    Case("policy of FORWARD", "NETFILTER_DROP", sends(5001, "10.7.2.2"), "dropped_by_rule", "policy is DROP", (NFT + "-P FORWARD DROP",)),
    Case("rule in raw PREROUTING", "NETFILTER_DROP", sends(5001), "dropped_by_rule", "raw PREROUTING", (NFT + "-t raw -A PREROUTING -p udp -j DROP",)),
    Case("rule in mangle POSTROUTING", "NETFILTER_DROP", sends(5001, "10.7.2.2"), "dropped_by_rule", "mangle POSTROUTING",
         (NFT + "-t mangle -A POSTROUTING -p udp -j DROP",)),
    Case("rule in OUTPUT", "NETFILTER_DROP", sends(5001, "10.7.2.2", "r"), "dropped_by_rule", "filter OUTPUT", (NFT + "-A OUTPUT -p udp -j DROP",)),
    Case("legacy rule", "NETFILTER_DROP", sends(5001), "dropped_by_rule", "filter INPUT", (LEGACY + "-A INPUT -p udp -j DROP",)),
    Case("native nft rule", "NETFILTER_DROP", sends(5001), "dropped_by_rule", "t inp",
         ("r: nft 'add table ip t; add chain ip t inp { type filter hook input priority 5; }; add rule ip t inp udp dport 5001 drop'",)),
    Case("REJECT", "NETFILTER_DROP", sends(5001), "rejected_by_rule", "rejected it", (NFT + "-A INPUT -p udp -j REJECT",)),
    Case("REJECT with a reset", "NETFILTER_DROP", frame(lambda: ip() / tcp(dport=80)), "rejected_by_rule", "rejected it",
         (NFT + "-A INPUT -p tcp -j REJECT --reject-with tcp-reset",)),
)  # fmt: skip

TABLE = (
    Case("two clients mapped to one port", "NETFILTER_DROP", frame(lambda: ip(dst=SILENT) / tcp(sport=6000, dport=25)),
         "conntrack_clash", "could not be confirmed", (NFT + "-t nat -A POSTROUTING -o rs -p tcp -j SNAT --to-source 10.7.2.1:25", SILENCE),
         frame(lambda: ip(dst=SILENT) / tcp(sport=5001, dport=25))),
    Case("two programs mapped to one port", "NETFILTER_DROP", _raw_syn(6000), "conntrack_clash", "could not be confirmed",
         ("c: iptables-nft -t nat -A POSTROUTING -p tcp --dport 25 -j SNAT --to-source 10.7.1.2:25", SILENCE), _raw_syn(5001), "c"),
    Case("table full, forwarded", "NETFILTER_DROP", sends(5001, "10.7.2.2"), "conntrack_full", "its table is full", (TRACKED,),
         lambda lab: lab.fill("r")),
    Case("table full, sent here", "NETFILTER_DROP", sends(5001, "10.7.2.2"), "conntrack_full", "its table is full",
         (TRACKED.replace("r:", "c:"),), lambda lab: lab.fill("c"), "c"),
)  # fmt: skip

DEVICES = (
    Case("xdp", "NOT_SPECIFIED", sends(5001), says="XDP program", before=lambda lab: lab.program("r", "rc", XDP, BPF_XDP, 1, generic=True)),
    Case("xdp in the driver", "NOT_SPECIFIED", sends(5001), says="XDP program", before=lambda lab: lab.program("r", "rc", XDP, BPF_XDP, 1)),
    Case("tc ingress", "TC_INGRESS", sends(5001), says="as it came in", before=lambda lab: lab.program("r", "rc", SCHED_CLS, TCX_INGRESS, 2)),
    Case("tc egress", "TC_EGRESS", sends(5001, "10.7.2.2"), says="as it left", before=lambda lab: lab.program("r", "rs", SCHED_CLS, TCX_EGRESS, 2)),
    Case("queue of no length", "QDISC_DROP", sends(5001, "10.7.2.2"), setup=("r: tc qdisc add dev rs root pfifo limit 0",), says="queue"),
    Case("token bucket full", "QDISC_DROP", sends(5001, "10.7.2.2", count=30, data=bytes(900)), says="queue",
         setup=("r: tc qdisc add dev rs root tbf rate 8kbit burst 1600 limit 1600",)),
    Case("tun nobody reads", "FULL_RING", sends(5001, "10.7.3.2", count=20), says="reader is too slow", before=_tun_full),
    Case("tun filter", "TAP_FILTER", sends(5001, "10.7.3.2"), says="tun device", before=_tap_filter),
    Case("tap lets others through", "TAP_TXFILTER", sends(5001, "10.7.3.2"), says="hardware addresses", before=_tap_txfilter),
    Case("bridge port blocked", "BRIDGE_INGRESS_STP_STATE", frame(lambda: ip() / udp()), says="does not forward yet",
         setup=("r: ip link add br0 type bridge stp_state 1; ip link set br0 up; ip link set rc master br0",)),
    Case("bridge: source cannot be", "MAC_INVALID_SOURCE", frame(lambda: ip() / udp(), src="01:00:00:00:00:01"), says="none that a machine can have",
         before=_bridge),
    Case("bridge: pause frame", "MAC_IEEE_MAC_CONTROL", frame(lambda: ip() / udp(), dst="01:80:c2:00:00:01"), says="no bridge passes on", before=_bridge),
    Case("vxlan header", "VXLAN_INVALID_HDR", _vxlan(0, 42), says="VXLAN header",
         setup=("r: ip link add vx0 type vxlan id 42 dev rc dstport 4789; ip link set vx0 up",)),
    Case("vxlan of another number", "VXLAN_VNI_NOT_FOUND", _vxlan(8, 43), says="network number",
         setup=("r: ip link add vx0 type vxlan id 42 dev rc dstport 4789; ip link set vx0 up",)),
    Case("vxlan without far end", "NO_TX_TARGET", sends(5001, "10.7.4.2"), says="no far end",
         setup=("r: ip link add vx0 type vxlan id 42 dev rc dstport 4789; ip addr add 10.7.4.1/24 dev vx0; ip link set vx0 up; "
                "ip neigh add 10.7.4.2 lladdr 02:00:00:00:08:08 dev vx0",)),
)  # fmt: skip

IPV6 = (
    Case("v6: closed port", "NO_SOCKET", sends(5001, "fd07:1::1"), "no_listener", "udp port 5001", v6=True),
    Case("v6: closed tcp port", "NO_SOCKET", frame(lambda: ip6() / tcp()), "no_listener", v6=True),
    Case("v6: hop limit used up", "IP_INHDR", frame(lambda: ip6(dst="fd07:2::2", hlim=1) / udp()), "ttl_exceeded", "ttl is used up", v6=True),
    Case("v6: no route", "IP_INNOROUTES", frame(lambda: ip6(dst="fd99::1") / udp()), "no_route", v6=True),
    Case("v6: forwarding off", "IP_INADDRERRORS", frame(lambda: ip6(dst="fd07:2::2") / udp()), "ip_forward_disabled", "does not forward",
         ("r: sysctl -qw net.ipv6.conf.all.forwarding=0",), v6=True),
    Case("v6: switched off", "IPV6DISABLED", frame(lambda: ip6() / udp()), says="switched off", setup=("r: sysctl -qw net.ipv6.conf.rc.disable_ipv6=1",), v6=True),
    Case("v6: unknown protocol", "IP_NOPROTO", frame(lambda: ip6(nh=200) / b"12345678"), "no_protocol", v6=True),
    Case("v6: udp checksum", "UDP_CSUM", frame(lambda: ip6() / udp(chksum=0x1234)), v6=True, before=waits("udp", 5001, "v6")),
    Case("v6: icmp checksum", "ICMP_CSUM", frame(lambda: ip6() / _echo6(cksum=0x1234)), v6=True),
    Case("v6: length beyond the frame", "PKT_TOO_SMALL", frame(lambda: ip6(plen=900) / udp()), v6=True),
    Case("v6: multicast as source", "IP_INHDR", frame(lambda: ip6(src="ff02::9") / udp()), v6=True, code="bad_ip_header"),
    Case("v6: rule", "NETFILTER_DROP", sends(5001, "fd07:1::1"), "dropped_by_rule", "filter INPUT", ("r: ip6tables-nft -A INPUT -p udp -j DROP",), v6=True),
    Case("v6: too big", "PKT_TOO_BIG", frame(lambda: ip6(dst="fd07:2::2") / udp() / bytes(1420)), "fragmentation_needed", "mtu 1300",
         ("r: ip link set rs mtu 1300",), v6=True),
    Case("v6: nobody answers", "NOT_SPECIFIED", frame(lambda: ip6(dst="fd07:2::77") / udp()), "neighbour_failed", "answers for fd07:2::77",
         ("r: sysctl -qw net.ipv6.neigh.rs.retrans_time_ms=100",), v6=True, wait=0.9, to="fd07:2::77"),
    Case("v6: an option that must be understood", "UNHANDLED_PROTO", frame(_bad_extension), v6=True),
    Case("v6: an option longer than its header", "IP_INHDR", frame(_long_option), "bad_ip_header", "IP header", v6=True),
    Case("v6: discovery from afar", "IPV6_NDISC_HOP_LIMIT", frame(_ndisc(hlim=64)), says="through a router", v6=True),
    Case("v6: discovery with a code", "IPV6_NDISC_BAD_CODE", frame(_ndisc(code=3)), says="other than 0", v6=True),
    Case("v6: discovery with bad options", "IPV6_NDISC_BAD_OPTIONS", frame(_ndisc(option=b"\x01\x00" + bytes(6))), says="options", v6=True),
    Case("v6: discovery of somebody else", "IPV6_NDISC_NS_OTHERHOST", frame(_ndisc(tgt="fd07:1::55")), says="neither has", v6=True),
    Case("v6: discovery in fragments", "IPV6_NDISC_FRAG", frame(_ndisc_fragment), says="in fragments", v6=True),
)  # fmt: skip

CASES = (*ROUTING, *NEIGHBOURS, *FRAGMENTS, *TRANSPORT, *TCP, *NETFILTER, *TABLE, *DEVICES, *IPV6)
