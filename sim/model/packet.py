"""The packet: one mutable ``Skb`` per traversal inside the engine; outside, its plain JSON form."""

from __future__ import annotations

from typing import Any

from ..record import NamedTuple
from .addr import AF_INET, format_addr
from .drawn import Number

# include/uapi/linux/in.h
IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP = 1, 2, 6, 17
IPPROTO_DCCP, IPPROTO_GRE, IPPROTO_ESP, IPPROTO_AH = 33, 47, 50, 51
IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_UDPLITE, IPPROTO_IPCOMP = 58, 132, 136, 108

PROTO_NAME = {
    1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 8: "egp", 12: "pup", 17: "udp", 27: "rdp", 33: "dccp", 41: "ipv6", 46: "rsvp",
    47: "gre", 50: "esp", 51: "ah", 58: "icmpv6", 89: "ospf", 94: "ipip", 103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp",
    132: "sctp", 135: "mh", 136: "udplite",
}  # fmt: skip
PROTO_NUMBER = {name: number for number, name in PROTO_NAME.items()} | {"ipv6-icmp": 58, "icmp6": 58}

WITH_PORTS = frozenset((IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_DCCP, IPPROTO_UDPLITE))

# TCP flag bits, RFC 9293, in the order of tcpdump's letters
TCP_FLAG = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}
TH_FIN, TH_SYN, TH_RST, TH_PUSH, TH_ACK, TH_URG, TH_ECE, TH_CWR = 1, 2, 4, 8, 16, 32, 64, 128

# ICMP types, RFC 792
ICMP_ECHOREPLY, ICMP_DEST_UNREACH, ICMP_SOURCE_QUENCH, ICMP_REDIRECT, ICMP_ECHO = 0, 3, 4, 5, 8
ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB, ICMP_TIMESTAMP, ICMP_TIMESTAMPREPLY = 11, 12, 13, 14
ICMP_INFO_REQUEST, ICMP_INFO_REPLY, ICMP_ADDRESS, ICMP_ADDRESSREPLY = 15, 16, 17, 18
ICMP_ERRORS = frozenset((3, 4, 5, 11, 12))

PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_LOOPBACK = 0, 1, 2, 3, 5


def flags_from_text(text: str) -> int:
    """tcpdump letters (``S``, ``SA``, ``R``, ``.`` for ACK, `` `` or ``-`` for none) to bits. Raises ValueError."""
    bits = 0
    for letter in text.upper().replace(".", "A"):
        if letter == "-":
            continue
        if letter not in TCP_FLAG:
            raise ValueError(f"unknown TCP flag {letter!r} (known: {''.join(TCP_FLAG)})")
        bits |= TCP_FLAG[letter]
    return bits


def flags_to_text(bits: int) -> str:
    return "".join(letter for letter, bit in TCP_FLAG.items() if bits & bit)


class Sk:
    """The socket behind a packet (skb->sk). ``has_file`` False: a kernel control socket (no uid to match)."""

    __slots__ = ("bound_dev", "cgroup", "gid", "has_file", "mark", "transparent", "uid")

    def __init__(self, uid: int = 0, gid: int = 0, has_file: bool = True, bound_dev: str | None = None,
                 mark: int = 0, transparent: bool = False, cgroup: str | None = None) -> None:  # fmt: skip
        self.uid, self.gid, self.has_file = uid, gid, has_file
        self.bound_dev, self.mark, self.transparent, self.cgroup = bound_dev, mark, transparent, cgroup


class NfBridge(NamedTuple):
    """struct nf_bridge_info: the ports of a bridge by which a frame came in and, being ``switched``, is to leave.

    A port that is None is one that the snapshot does not tell. ``sender``: the interface (model.world.Port) that put
    the frame on the wire, or None.
    """

    physin: str | None
    sender: Any = None
    switched: bool = False
    physout: str | None = None


class Skb:
    """struct sk_buff with parsed headers. Mutable, owned by one traversal, never leaves the engine.

    Addresses are ints of ``family``; ``length`` is the IP total length in bytes; ``frag`` the fragment offset in
    bytes. ICMP errors carry the offending packet in ``inner`` (another Skb with its headers only). ``payload`` is
    the bytes after the transport header, or None when nobody said what they are (then its length follows from
    ``length``). ``ct`` is the id of the conntrack entry (None: no entry) and ``ctinfo`` the kernel's number (7 =
    UNTRACKED); ``template`` what a CT target attached for conntrack to find. ``dst`` is the destination address,
    ``rt`` the route (skb_dst) once routed.
    """

    __slots__ = (
        "bridge",
        "cause",
        "chunk_types",
        "cookie",
        "ct",
        "ctinfo",
        "dccp_type",
        "df",
        "dport",
        "dst",
        "family",
        "frag",
        "gre_key",
        "icmp_code",
        "icmp_gateway",
        "icmp_id",
        "icmp_mtu",
        "icmp_seq",
        "icmp_type",
        "inner",
        "ip_id",
        "ip_options",
        "length",
        "mac_dst",
        "mac_src",
        "mark",
        "mf",
        "mss",
        "nf_trace",
        "payload",
        "piece",
        "pkttype",
        "priority",
        "proto",
        "rt",
        "sk",
        "spi",
        "sport",
        "src",
        "tcp_ack",
        "tcp_flags",
        "tcp_options",
        "tcp_seq",
        "template",
        "tos",
        "tproxy",
        "ttl",
        "uid",
        "window",
    )  # fmt: skip

    def __init__(self, family: int = AF_INET, proto: int = 0, src: int = 0, dst: int = 0) -> None:
        self.family, self.proto, self.src, self.dst = family, proto, src, dst
        self.ttl, self.tos, self.length, self.ip_id = 64, 0, 20, 0
        self.df, self.mf, self.frag = False, False, 0
        self.ip_options: bytes = b""
        self.sport: Number = 0
        self.dport: Number = 0
        self.tcp_flags, self.tcp_seq, self.tcp_ack, self.window = 0, 0, 0, 65535
        self.cookie = False  # the sequence number is one that only the sending kernel knows (a SYN cookie)
        self.mss: int | None = None
        self.tcp_options: bytes | None = None  # raw option bytes; None: derived from mss
        self.icmp_type, self.icmp_code = 0, 0
        self.icmp_id: Number = 0
        self.icmp_seq = 0
        self.icmp_mtu, self.icmp_gateway = 0, 0
        self.inner: Skb | None = None
        self.spi, self.gre_key = 0, 0
        self.chunk_types: tuple[tuple[int, int], ...] = ()  # sctp: (type, flags)
        self.dccp_type = 0
        self.payload: bytes | None = None
        self.piece = 0  # size of the first fragment, of a datagram that is under way in fragments
        self.mac_src: int | None = None
        self.mac_dst: int | None = None
        self.mark, self.priority, self.pkttype = 0, 0, PACKET_HOST
        self.uid = 0
        self.sk: Sk | None = None
        self.ct: int | None = None
        self.ctinfo: int | None = None
        self.template: Any = None  # engine.conntrack.Template from -j CT
        self.rt: Any = None  # engine.routing.Rt once routed
        self.tproxy: Any = None  # the socket that TPROXY assigned
        self.nf_trace = False
        self.bridge: NfBridge | None = None
        self.cause: Any = None  # for a packet that the kernel made: what made it

    def copy(self) -> Skb:
        twin = Skb.__new__(Skb)
        for name in Skb.__slots__:
            setattr(twin, name, getattr(self, name))
        if self.inner is not None:
            twin.inner = self.inner.copy()
        return twin

    @property
    def has_ports(self) -> bool:
        return self.proto in WITH_PORTS

    @property
    def is_icmp(self) -> bool:
        return self.proto == (IPPROTO_ICMP if self.family == AF_INET else IPPROTO_ICMPV6)

    @property
    def is_icmp_error(self) -> bool:
        if self.family == AF_INET:
            return self.proto == IPPROTO_ICMP and self.icmp_type in ICMP_ERRORS
        return self.proto == IPPROTO_ICMPV6 and self.icmp_type < 128

    def header(self) -> dict[str, Any]:
        """What the contract's ``packet`` holds: plain JSON values (a drawn port stays a Drawn)."""
        out: dict[str, Any] = {
            "proto": PROTO_NAME.get(self.proto, str(self.proto)),
            "src": format_addr(self.family, self.src),
            "dst": format_addr(self.family, self.dst),
        }
        if self.has_ports:
            out["sport"], out["dport"] = self.sport, self.dport
        if self.proto == IPPROTO_TCP:
            out["flags"] = flags_to_text(self.tcp_flags)
            if not self.cookie:
                out["tcp_seq"] = self.tcp_seq
            out["tcp_ack"], out["window"] = self.tcp_ack, self.window
            out["mss"] = self.mss
        if self.is_icmp:
            out["type"], out["code"] = self.icmp_type, self.icmp_code
            if self.inner is not None:
                out["inner"] = self.inner.header()
                if self.icmp_mtu:
                    out["mtu"] = self.icmp_mtu
                if self.icmp_gateway:
                    out["gateway"] = format_addr(self.family, self.icmp_gateway)
            else:
                out["icmp_id"], out["seq"] = self.icmp_id, self.icmp_seq
        if self.proto in (IPPROTO_ESP, IPPROTO_AH):
            out["spi"] = self.spi
        out["ttl"], out["tos"], out["len"], out["mark"] = self.ttl, self.tos, self.length, self.mark
        out["df"] = self.df
        return out
