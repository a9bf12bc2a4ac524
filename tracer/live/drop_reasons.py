"""Every reason for which the kernel frees a packet (enum skb_drop_reason and those of subsystems), one plain sentence each.

The names are those of kernels 5.17 to 7.x (include/net/dropreason*.h, net/openvswitch/drop.h); which number means which is
read from the running kernel. ``code`` is our own code for the outcome (``nattrace explain CODE``), ``layer`` who decided.
"""

from __future__ import annotations

from typing import NamedTuple

LINK, IP, NETFILTER, TRANSPORT, QUEUE, NEIGHBOUR, DEVICE, TUNNEL, OTHER = (
    "link",
    "ip",
    "netfilter",
    "transport",
    "queue",
    "neighbour",
    "device",
    "tunnel",
    "other",
)
KERNEL_DROP = "kernel_drop"
PREFIX = "SKB_DROP_REASON_"


class DropReason(NamedTuple):
    """One reason. ``cure``: what to look at or do, a line each."""

    name: str
    layer: str
    sentence: str
    code: str = KERNEL_DROP
    cure: tuple[str, ...] = ()


REASONS: dict[str, DropReason] = {}


def _add(layer: str, *entries: tuple[str, ...]) -> None:
    """(name without the common prefix, sentence, code or empty, cures …)."""
    for name, sentence, *more in entries:
        own = name in ("SKB_NOT_DROPPED_YET", "SKB_CONSUMED") or name.startswith(("OVS_DROP_", "QDISC_DROP_"))
        full = name if own else PREFIX + name
        code, *cure = more or [""]
        REASONS[full] = DropReason(full, layer, sentence, code or KERNEL_DROP, tuple(cure))


_SS = "ss -lntup   (what listens, and on which address)"
_TCPSTAT = "nstat -az | grep -i tcp   (which counter grows)"
_ADDR = "ip -br addr"
_TC = "tc -s qdisc show   (dropped, overlimits, backlog)"

_add(
    OTHER,
    ("SKB_NOT_DROPPED_YET", "The packet is still alive; a packet freed with this says that nobody gave a reason."),
    ("SKB_CONSUMED", "Used up in the ordinary way: read by its receiver, or copied and let go."),
    ("NOT_SPECIFIED", "The code that threw the packet away gives no reason; the kernel function tells where it was."),
    ("NOMEM", "Memory for the packet or for what it needs could not be had.", "", "free -m; dmesg | grep -i 'alloc'"),
    ("SKB_CSUM", "The checksum could not be worked out over the packet's fragments of memory."),
    ("SKB_GSO_SEG", "Cutting the large packet into segments for the device failed."),
    ("SKB_BAD_GSO", "What the packet says about the segments that it stands for contradicts itself."),
    ("SKB_UCOPY_FAULT", "The packet's data lay in a program's memory and could not be copied from there."),
    ("HDR_TRUNC", "A header that must be there lies beyond the end of the data."),
    (
        "PFMEMALLOC",
        "The packet came in emergency memory, which only sockets that swap may use.",
        "",
        "vm.min_free_kbytes is low for this traffic",
    ),
    (
        "SECURITY_HOOK",
        "A security module (SELinux, AppArmor, a BPF LSM program) refused the packet.",
        "",
        "ausearch -m avc; dmesg | grep -i denied",
    ),
    ("QUEUE_PURGE", "It waited in a queue that was emptied as a whole: the socket or the device was closed."),
    (
        "RECURSION_LIMIT",
        "Virtual devices hand the packet to each other in a circle; the kernel stopped after a few rounds.",
        "",
        "ip -d link   (a tunnel whose way to its far end leads through itself)",
    ),
    ("MAX", "Not a reason but the end of the list."),
    ("SUBSYS_MASK", "Not a reason but the bits that say which subsystem a reason is from."),
)

_add(
    LINK,
    (
        "OTHERHOST",
        "The frame is for another machine's hardware address; the device hands it up because it is promiscuous or a bridge port.",
        "dropped_not_for_us",
        "ip neigh   (on the sender: which hardware address it uses)",
        "ip -br link",
    ),
    ("PKT_TOO_SMALL", "The packet is shorter than the headers it must have."),
    (
        "UNHANDLED_PROTO",
        "No protocol of this host takes frames of this type (ethertype).",
        "",
        "the module of the protocol (8021q, mpls …) is not loaded, or the frame came to a device without it",
    ),
    ("MAC_INVALID_SOURCE", "The frame's source hardware address is none that a machine can have."),
    (
        "LOCAL_MAC",
        "The frame claims to come from this device's own hardware address.",
        "",
        "bridge fdb show   (a loop, or the same address twice)",
    ),
    (
        "MAC_IEEE_MAC_CONTROL",
        "A frame to the reserved addresses of IEEE 802.1D, which no bridge passes on.",
        "",
        "group_fwd_mask of the bridge",
    ),
    (
        "BRIDGE_INGRESS_STP_STATE",
        "The bridge port does not forward yet (spanning tree: listening, learning or blocking).",
        "",
        "bridge link show",
        "ip link set BRIDGE type bridge forward_delay 0, or wait",
    ),
    (
        "ARP_PVLAN_DISABLE",
        "An ARP request that would be answered by proxy within a private VLAN, which is off on this device.",
        "",
        "net.ipv4.conf.DEV.proxy_arp_pvlan",
    ),
    (
        "UNICAST_IN_L2_MULTICAST",
        "A unicast IP packet in a frame for many; this interface is told to refuse those.",
        "",
        "sysctl net.ipv4.conf.all.drop_unicast_in_l2_multicast",
    ),
    ("CAN_RX_INVALID_FRAME", "Not a well-formed CAN frame, or not from a CAN device."),
    ("CANFD_RX_INVALID_FRAME", "Not a well-formed CAN FD frame, or not from a CAN device."),
    ("CANXL_RX_INVALID_FRAME", "Not a well-formed CAN XL frame, or not from a CAN device."),
)

_add(
    IP,
    (
        "IP_CSUM",
        "The checksum of the IP header is wrong: damaged on the way, or made wrong by its sender.",
        "bad_ip_header",
        "tcpdump -vv shows (wrong → right)",
    ),
    (
        "IP_INHDR",
        "Something in the IP header is not acceptable: version, length, options, or a ttl that is used up.",
        "bad_ip_header",
    ),
    (
        "IP_RPFILTER",
        "Reverse path filter: answers to this source would not leave by the interface the packet came in by.",
        "rp_filter",
        "sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.DEV.rp_filter",
        "ip route get SOURCE   (where answers would go)",
    ),
    (
        "IP_NOPROTO",
        "No protocol and no raw socket of this host takes this IP protocol number.",
        "no_protocol",
        "load the module of the protocol, or start the program",
    ),
    (
        "IP_OUTNOROUTES",
        "There is no route for sending this packet.",
        "no_route",
        "ip route get DESTINATION",
        "ip rule; ip route show table all",
    ),
    (
        "IP_INNOROUTES",
        "There is no route to the packet's destination.",
        "no_route",
        "ip route get DESTINATION from SOURCE iif DEV",
    ),
    (
        "IP_INADDRERRORS",
        "The packet is not for this host and cannot be forwarded: forwarding is off, or the route says unreachable.",
        "ip_forward_disabled",
        "sysctl net.ipv4.ip_forward net.ipv4.conf.DEV.forwarding",
    ),
    (
        "IP_LOCAL_SOURCE",
        "The source is an address of this host itself, on a packet from outside.",
        "accept_local_off",
        "sysctl net.ipv4.conf.DEV.accept_local   (1 lets it in)",
        "another machine uses the same address?",
    ),
    ("IP_INVALID_SOURCE", "The source cannot be a sender: multicast, broadcast, or 0.0.0.0.", "martian_source"),
    (
        "IP_LOCALNET",
        "An address of 127.0.0.0/8 on a packet that is not from the loopback device.",
        "route_localnet_off",
        "sysctl net.ipv4.conf.DEV.route_localnet   (1 lets it in)",
    ),
    (
        "IP_INVALID_DEST",
        "The destination cannot be one: 0.0.0.0, or an address that only the loopback device may use.",
        "martian_destination",
    ),
    (
        "PKT_TOO_BIG",
        "The packet is larger than the way on allows and must not be cut up.",
        "fragmentation_needed",
        "ip link   (mtu)",
        "iptables -t mangle -A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu",
    ),
    ("DUP_FRAG", "This fragment, or a part of it, is there already."),
    (
        "FRAG_REASM_TIMEOUT",
        "The other fragments did not come in time, so those that had come were given up.",
        "",
        "sysctl net.ipv4.ipfrag_time",
        "something before drops later fragments (they have no ports)",
    ),
    (
        "FRAG_TOO_FAR",
        "Too many other packets of this sender came between two fragments.",
        "",
        "sysctl net.ipv4.ipfrag_max_dist",
    ),
    (
        "XFRM_POLICY",
        "An IPsec policy of this host demands protection that the packet does not have.",
        "",
        "ip xfrm policy; ip xfrm state",
    ),
    ("IPV6DISABLED", "IPv6 is switched off on this device.", "", "sysctl net.ipv6.conf.DEV.disable_ipv6"),
    (
        "IPV6_BAD_EXTHDR",
        "An IPv6 extension header is malformed, not allowed here, or says that unknown packets shall be dropped.",
    ),
    ("IPV6_TOO_MANY_EXTHDRS", "The IPv6 packet has more extension headers than this kernel looks through."),
    (
        "IPV6_NDISC_FRAG",
        "Neighbour discovery in fragments, which is refused (RFC 6980).",
        "",
        "sysctl net.ipv6.conf.DEV.suppress_frag_ndisc",
    ),
    (
        "IPV6_NDISC_HOP_LIMIT",
        "Neighbour discovery with a hop limit below 255: it came through a router, which it must not.",
    ),
    ("IPV6_NDISC_BAD_CODE", "Neighbour discovery with an ICMPv6 code other than 0."),
    ("IPV6_NDISC_BAD_OPTIONS", "Neighbour discovery with options that cannot be read, or without one that it needs."),
    ("IPV6_NDISC_NS_OTHERHOST", "A neighbour solicitation for an address that this host neither has nor answers for."),
    (
        "BPF_CGROUP_EGRESS",
        "A BPF program of the sender's cgroup refused the packet.",
        "",
        "bpftool cgroup tree   (systemd: IPAddressDeny=)",
    ),
    (
        "NEIGH_CREATEFAIL",
        "No neighbour entry could be made for the next hop.",
        "neighbour_failed",
        "sysctl net.ipv4.neigh.default.gc_thresh3   (the table is full?)",
    ),
)

_add(
    NETFILTER,
    (
        "NETFILTER_DROP",
        "A rule or a policy of netfilter dropped the packet.",
        "dropped_by_rule",
        "iptables -nvL; nft list ruleset   (which counter grows)",
    ),
)

_add(
    NEIGHBOUR,
    (
        "NEIGH_FAILED",
        "Nobody answered when this host asked for the next hop's hardware address.",
        "neighbour_failed",
        "ip neigh show NEXTHOP",
        "arping -I DEV NEXTHOP",
    ),
    (
        "NEIGH_QUEUEFULL",
        "Too many packets wait already for the same neighbour to answer.",
        "neighbour_failed",
        "sysctl net.ipv4.neigh.DEV.unres_qlen_bytes",
    ),
    ("NEIGH_DEAD", "The neighbour entry was being removed: the device or the address went away."),
    ("NEIGH_HH_FILLFAIL", "The stored link-layer header no longer fits the device."),
)

_add(
    QUEUE,
    (
        "TC_EGRESS",
        "A tc filter or BPF program dropped the packet as it left by the device.",
        "",
        "tc filter show dev DEV egress",
    ),
    (
        "TC_INGRESS",
        "A tc filter or BPF program dropped the packet as it came in by the device.",
        "",
        "tc filter show dev DEV ingress",
    ),
    ("TC_COOKIE_ERROR", "A tc action's notes about the packet could not be stored."),
    (
        "TC_CHAIN_NOTFOUND",
        "A tc action jumps to a chain of filters that does not exist.",
        "",
        "tc chain show dev DEV ingress",
    ),
    ("TC_RECLASSIFY_LOOP", "The filters of tc sent the packet round in a circle."),
    ("QDISC_DROP", "The queueing discipline of the device did not take the packet.", "", _TC),
    ("QDISC_OVERLIMIT", "The queue of the device is full.", "", _TC),
    ("QDISC_CONGESTED", "The queue's control of delay threw the packet away early, as a sign to the sender.", "", _TC),
    ("QDISC_BURST_DROP", "The queue dropped a burst that was beyond its limit.", "", _TC),
    ("CAKE_FLOOD", "CAKE takes this flow for a flood that does not slow down.", "", _TC),
    ("FQ_BAND_LIMIT", "The priority band of the fq queue is full.", "", _TC),
    ("FQ_HORIZON_LIMIT", "The packet's sending time lies further ahead than fq allows.", "", _TC),
    ("FQ_FLOW_LIMIT", "This flow has as many packets in the fq queue as it may.", "", _TC),
    ("DUALPI2_STEP_DROP", "DualPI2 dropped it: its queue stands above the step threshold.", "", _TC),
    ("MACVLAN_BROADCAST_BACKLOG", "The queue of broadcasts that a macvlan is to copy to its children is full."),
    ("IPVLAN_MULTICAST_BACKLOG", "The queue of multicasts that an ipvlan is to copy to its children is full."),
    ("QDISC_DROP_FLOOD_PROTECTION", "The queue takes this flow for a flood that does not slow down.", "", _TC),
    ("QDISC_DROP_BAND_LIMIT", "The priority band of this queue is full.", "", _TC),
    ("QDISC_DROP_HORIZON_LIMIT", "The packet's sending time lies further ahead than the queue allows.", "", _TC),
    (
        "CPU_BACKLOG",
        "The CPU's queue of received packets is full, or a flow takes more than its share of it.",
        "",
        "sysctl net.core.netdev_max_backlog; cat /proc/net/softnet_stat",
    ),
    (
        "XDP",
        "An XDP program of the device dropped the packet before the network stack saw it.",
        "",
        "ip link show dev DEV   (prog/xdp)",
        "bpftool net",
    ),
    ("QDISC_DROP_UNSPEC", "The queueing discipline gives no reason.", "", _TC),
    ("QDISC_DROP_GENERIC", "The queueing discipline of the device did not take the packet.", "", _TC),
    ("QDISC_DROP_OVERLIMIT", "The queue of the device is full.", "", _TC),
    (
        "QDISC_DROP_CONGESTED",
        "The queue's control of delay threw the packet away early, as a sign to the sender.",
        "",
        _TC,
    ),
    ("QDISC_DROP_MAXFLOWS", "The queue has no room for one more flow.", "", _TC),
    ("QDISC_DROP_CAKE_FLOOD", "CAKE takes this flow for a flood that does not slow down.", "", _TC),
    ("QDISC_DROP_FQ_BAND_LIMIT", "The priority band of the fq queue is full.", "", _TC),
    ("QDISC_DROP_FQ_HORIZON_LIMIT", "The packet's sending time lies further ahead than fq allows.", "", _TC),
    ("QDISC_DROP_FLOW_LIMIT", "This flow has as many packets in the queue as it may.", "", _TC),
    (
        "QDISC_DROP_L4S_STEP_NON_ECN",
        "The queue stands above its step threshold and the packet cannot carry a congestion mark.",
        "",
        _TC,
    ),
    ("QDISC_DROP_MAX", "Not a reason but the end of the list."),
)

_add(
    DEVICE,
    ("DEV_HDR", "The link-layer header of this device is wrong or could not be made."),
    ("DEV_READY", "The device is not ready: down, or nobody is attached to it.", "", "ip -br link   (UP, LOWER_UP)"),
    (
        "FULL_RING",
        "The ring of the device (or of the program behind a tun) is full: its reader is too slow.",
        "",
        "ip -s link show dev DEV",
        "ip link set DEV txqueuelen 10000",
    ),
    ("TAP_FILTER", "The filter that the program attached to its tun device refused the packet."),
    ("TAP_TXFILTER", "The tun device lets only chosen hardware addresses through, and this one is none of them."),
)

_add(
    TUNNEL,
    ("VXLAN_INVALID_HDR", "The VXLAN header has bits that must not be there, or lacks the one that must."),
    (
        "VXLAN_VNI_NOT_FOUND",
        "No VXLAN device of this host has the network number of the packet.",
        "",
        "ip -d link show type vxlan",
    ),
    (
        "VXLAN_ENTRY_EXISTS",
        "The sender's hardware address is known at another far end, and learning it anew is not allowed.",
    ),
    ("VXLAN_NO_REMOTE", "The VXLAN device knows no far end for this hardware address.", "", "bridge fdb show dev DEV"),
    ("NO_TX_TARGET", "The tunnel or bridge knows no far end for the packet.", "", "bridge fdb show dev DEV"),
    ("IP_TUNNEL_ECN", "The congestion bits of the outer and inner header contradict each other (RFC 6040)."),
    ("TUNNEL_TXINFO", "The packet lacks the notes that the tunnel needs to send it."),
    ("PSP_INPUT", "A check of PSP encryption failed on the way in."),
    ("PSP_OUTPUT", "A check of PSP encryption failed on the way out."),
)

_add(
    TRANSPORT,
    ("NO_SOCKET", "The packet reached this host, and no socket takes it.", "no_listener", _SS, _ADDR),
    ("SOCKET_CLOSE", "It waited for a program that closed its socket without reading it."),
    (
        "SOCKET_FILTER",
        "The filter that the program attached to its socket refused the packet.",
        "",
        "ss -a --bpf   (shows classic filters)",
    ),
    (
        "SOCKET_RCVBUFF",
        "The socket's receive buffer is full: the program does not read fast enough.",
        "",
        "ss -nm   (rb, and d: dropped)",
        "sysctl net.core.rmem_max; the program's SO_RCVBUF",
    ),
    ("SOCKET_BACKLOG", "The program held its socket, and more waited for it than may.", "", _TCPSTAT),
    (
        "PROTO_MEM",
        "All sockets of the protocol together hold as much memory as they may.",
        "",
        "sysctl net.ipv4.udp_mem net.ipv4.tcp_mem",
    ),
    ("UNIX_DISCONNECT", "What waited in a UNIX socket was thrown away when the socket was connected anew."),
    ("UNIX_SKIP_OOB", "An out-of-band byte of a UNIX socket was passed over."),
    (
        "PACKET_SOCK_ERROR",
        "A capture socket could not take its copy (its buffer is full): a capture lacks it, its receiver does not.",
        "",
        "tcpdump -B SIZE",
    ),
    ("UDP_CSUM", "The UDP checksum is wrong: damaged, or changed on the way by something that did not mend it."),
    ("ICMP_CSUM", "The ICMP checksum is wrong."),
    ("TCP_CSUM", "The TCP checksum is wrong: damaged, or changed on the way by something that did not mend it."),
    (
        "INVALID_PROTO",
        "A message that this protocol does not allow here, such as a timestamp request to a broadcast address.",
    ),
    ("TCP_AUTH_HDR", "The segment is signed twice (MD5 and AO), or its signature option is malformed."),
    (
        "TCP_MD5NOTFOUND",
        "The connection demands MD5 signatures (BGP), and the segment has none.",
        "",
        "the password is missing on the other side",
    ),
    (
        "TCP_MD5UNEXPECTED",
        "The segment has an MD5 signature, and this host expects none.",
        "",
        "the password is missing on this side",
    ),
    (
        "TCP_MD5FAILURE",
        "The segment's MD5 signature is wrong.",
        "",
        "the passwords differ, or NAT changed the addresses that are signed",
    ),
    ("TCP_AONOTFOUND", "The connection demands TCP-AO signatures, and the segment has none."),
    ("TCP_AOUNEXPECTED", "The segment has a TCP-AO signature, and this host expects none."),
    ("TCP_AOKEYNOTFOUND", "The segment is signed with a TCP-AO key that this host does not know."),
    ("TCP_AOFAILURE", "The segment's TCP-AO signature is wrong."),
    ("TCP_FLAGS", "The combination of TCP flags is none that may come in this state."),
    ("TCP_ABORT_ON_DATA", "Data came for a connection whose program is gone; it is reset."),
    (
        "TCP_ZEROWINDOW",
        "The receiver has no room, and had said so (window 0).",
        "",
        "ss -tnm   (Recv-Q: the program does not read)",
    ),
    ("TCP_OLD_DATA", "All of this data has come before: the sender repeats what arrived."),
    ("TCP_OVERWINDOW", "The data begins beyond what the receiver had offered to take."),
    ("TCP_OFOMERGE", "This data waits already among what came out of order."),
    (
        "TCP_RFC7323_PAWS",
        "The segment's timestamp is older than what came before (PAWS).",
        "",
        "several machines behind one NAT address with different clocks",
    ),
    ("TCP_RFC7323_PAWS_ACK", "A pure acknowledgement whose timestamp is older than what came before; it is just late."),
    ("TCP_RFC7323_TW_PAWS", "An old segment of a connection that is closed already (TIME-WAIT), by its timestamp."),
    ("TCP_RFC7323_TSECR", "The segment echoes a timestamp that was never sent."),
    (
        "TCP_LISTEN_OVERFLOW",
        "The listener's queue of finished connections is full: the program does not accept fast enough.",
        "",
        "ss -lnt   (Recv-Q against Send-Q)",
        "sysctl net.core.somaxconn; the program's backlog",
    ),
    ("TCP_OLD_SEQUENCE", "The segment lies wholly before what is expected: a late copy."),
    ("TCP_INVALID_SEQUENCE", "The sequence number lies outside of the receive window."),
    ("TCP_INVALID_END_SEQUENCE", "The segment ends beyond the receive window."),
    ("TCP_INVALID_ACK_SEQUENCE", "It acknowledges what was never sent, or what was acknowledged long ago."),
    (
        "TCP_RESET",
        "A reset that ends nothing: its number is not exactly the one that is expected, or nothing is there to be reset.",
    ),
    ("TCP_INVALID_SYN", "A SYN in the middle of a connection."),
    ("TCP_CLOSE", "The socket is closed already."),
    ("TCP_FASTOPEN", "A connection begun with TCP Fast Open could not take this segment yet."),
    ("TCP_OLD_ACK", "It acknowledges less than an earlier one did, within reason: a late copy."),
    ("TCP_TOO_OLD_ACK", "It acknowledges far less than was acknowledged long ago: a stray or forged segment."),
    ("TCP_ACK_UNSENT_DATA", "It acknowledges data that was never sent."),
    ("TCP_OFO_QUEUE_PRUNE", "It waited out of order, and memory had to be made free.", "", "sysctl net.ipv4.tcp_rmem"),
    ("TCP_OFO_DROP", "It came out of order, and what it brings is there already."),
    (
        "TCP_MINTTL",
        "The ttl is lower than the socket demands (GTSM: the sender is not where it should be).",
        "",
        "the program sets IP_MINTTL; BGP ttl-security",
    ),
)

_add(
    DEVICE,
    (
        "OVS_DROP_LAST_ACTION",
        "Open vSwitch: the flow's actions end without sending the packet anywhere.",
        "",
        "ovs-appctl ofproto/trace",
    ),
    ("OVS_DROP_ACTION_ERROR", "Open vSwitch: an action failed."),
    ("OVS_DROP_EXPLICIT", "Open vSwitch: a flow says drop.", "", "ovs-ofctl dump-flows BRIDGE"),
    (
        "OVS_DROP_EXPLICIT_WITH_ERROR",
        "Open vSwitch: its daemon met an error and had the packet dropped.",
        "",
        "ovs-vswitchd's log",
    ),
    ("OVS_DROP_METER", "Open vSwitch: a meter's rate is exceeded.", "", "ovs-ofctl -O OpenFlow13 meter-stats BRIDGE"),
    ("OVS_DROP_RECURSION_LIMIT", "Open vSwitch: flows sent the packet round in a circle."),
    ("OVS_DROP_DEFERRED_LIMIT", "Open vSwitch: too many actions wait on this CPU."),
    ("OVS_DROP_FRAG_L2_TOO_LONG", "Open vSwitch: the link-layer header is too long to cut the packet up."),
    ("OVS_DROP_FRAG_INVALID_PROTO", "Open vSwitch: only IP packets can be cut up."),
    ("OVS_DROP_CONNTRACK", "Open vSwitch: connection tracking refused the packet."),
    ("OVS_DROP_IP_TTL", "Open vSwitch: the packet's ttl is used up.", "ttl_exceeded"),
    ("OVS_DROP_MAX", "Not a reason but the end of the list."),
)

# names of single kernels of the series, with the name that says the same today
RENAMED = {
    f"{PREFIX}PTYPE_ABSENT": f"{PREFIX}UNHANDLED_PROTO",  # 5.17
    f"{PREFIX}NOT_DROPPED_YET": "SKB_NOT_DROPPED_YET",
    f"{PREFIX}EGRESS": f"{PREFIX}TC_EGRESS",
}

# Wireless (net/mac80211/drop.h): their names say what happened in the driver's own terms
_WIRELESS = "Wireless: the frame did not fit the state or the protection of the association"


def wireless(name: str) -> DropReason:
    """RX_DROP_…: one of mac80211's own, by its name."""
    told = name.removeprefix("RX_DROP_").removeprefix("U_").removeprefix("M_").replace("_", " ").lower()
    return DropReason(name, DEVICE, f"{_WIRELESS} ({told}).", KERNEL_DROP, ("iw dev DEV station dump",))
