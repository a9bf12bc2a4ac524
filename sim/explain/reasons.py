"""Every stable code: what it means, how it shows, how to cure it.

A *reason* explains an outcome (``reason.code``); a *diagnosis* explains why the user is unhappy with it
(``diagnosis[].code``). Codes are never renamed; ``nattrace explain CODE`` prints an entry, ``nattrace schema
--reasons`` lists them all.
"""

from __future__ import annotations

import difflib

from ..record import NamedTuple

REASON, DIAGNOSIS = "reason", "diagnosis"


class Code(NamedTuple):
    """One entry. ``cure``: commands and advice, a line each; ``see``: related codes."""

    code: str
    kind: str
    title: str
    meaning: str
    shows: str
    cure: tuple[str, ...] = ()
    kernel: str = ""
    see: tuple[str, ...] = ()


_registry: dict[str, Code] = {}


def _add(kind: str, code: str, title: str, meaning: str, shows: str, cure: tuple[str, ...] = (), kernel: str = "",
         see: tuple[str, ...] = ()) -> None:  # fmt: skip
    if code in _registry:
        raise RuntimeError(f"code {code!r} is defined twice")
    _registry[code] = Code(code, kind, title, meaning, shows, cure, kernel, see)


def find(code: str) -> Code | None:
    """The entry of a code, or None."""
    return _registry.get(code.strip().lower().replace("-", "_"))


def codes() -> tuple[Code, ...]:
    """All entries in the order in which they are defined."""
    return tuple(_registry.values())


def similar(code: str) -> list[str]:
    """Existing codes that look like a mistyped one."""
    return difflib.get_close_matches(code.strip().lower().replace("-", "_"), _registry, n=3, cutoff=0.5)


# ------------------------------------------------------------------------------------------- how packets end

_add(
    REASON, "delivered_local", "Delivered to this host",
    "The destination is an address of the host and the packet passed INPUT: a socket, or the kernel itself (echo "
    "requests), receives it.",
    "The application answers, or at least a capture on the host shows the packet. If it does not answer, look at the "
    "way back.",
    ("nattrace why with the reply turned round shows the way back",),
    "ip_local_deliver_finish()", ("no_listener", "no_return_route"),
)  # fmt: skip
_add(
    REASON, "no_listener", "Delivered, but nobody listens",
    "The packet reached the transport layer and no socket takes it: wrong port, wrong address or device to listen on, "
    "or the service is down. The kernel answers TCP with a reset and UDP with port unreachable (ICMP 3/3).",
    "connect(): Connection refused; ICMP 3/3 or a RST in a capture. Not a firewall's doing.",
    ("ss -lntup   (what listens, and on which address)",
     "listen on the address that the packet is for after NAT, or on 0.0.0.0 or [::]"),
    "__udp4_lib_rcv(), tcp_v4_rcv()", ("listener_bound_elsewhere", "delivered_local"),
)  # fmt: skip
_add(
    REASON, "no_protocol", "Delivered, but the host does not speak the protocol",
    "No handler and no raw socket for the IP protocol number; the sender is told protocol unreachable (ICMP 3/2).",
    "ICMP 3/2 in a capture on the sender; InUnknownProtos grows in /proc/net/snmp.",
    ("load the module or start the program that handles the protocol (GRE, ESP, SCTP …)",),
    "ip_protocol_deliver_rcu()", ("no_listener",),
)  # fmt: skip
_add(
    REASON, "left_at_edge", "Left the known world",
    "The packet goes out by an interface behind which the snapshot knows nothing. Up to here everything went well; "
    "whether somebody answers is not in the snapshot.",
    "A capture on that interface shows the packet with the headers given in the answer.",
    ("add the next host to the snapshot (nattrace snapshot --all-netns, or snapshot.json with segments)",),
    "dev_queue_xmit()", ("private_source_leaves",),
)  # fmt: skip
_add(
    REASON, "dropped_by_rule", "Dropped by a rule",
    "A rule with the target DROP, or a match that found the packet malformed (hotdrop: a fragment at offset 8 with "
    "TCP, a truncated header), discarded it. Nobody is told; a local sender gets EPERM from OUTPUT and POSTROUTING.",
    "Time-outs. The counter of the rule grows: iptables -t TABLE -L CHAIN -n -v --line-numbers.",
    ("insert a rule that accepts the flow before the one named in the answer: iptables -t TABLE -I CHAIN N … -j ACCEPT",),
    "ipt_do_table()", ("dropped_by_policy", "rejected_by_rule"),
)  # fmt: skip
_add(
    REASON, "dropped_by_policy", "Dropped by a chain's policy",
    "No rule of the base chain decided, so its policy did: DROP. RETURN in a base chain, and the end of a chain that "
    "was entered with goto, lead to the policy too.",
    "Time-outs; the counter beside the policy grows.",
    ("iptables -t filter -A CHAIN … -j ACCEPT   for the flow (do not open the policy as a whole)",),
    "ipt_do_table()", ("dropped_by_rule", "criterion_failed"),
)  # fmt: skip
_add(
    REASON, "rejected_by_rule", "Refused by REJECT",
    "A REJECT rule discarded the packet and told the sender, with an ICMP error or a TCP reset. No answer is sent to "
    "fragments, ICMP errors, resets and broadcasts. A local sender gets EPERM.",
    "Connection refused (tcp-reset, port unreachable), No route to host (host unreachable, host or admin prohibited) "
    "at once, not after a time-out.",
    ("insert a rule that accepts the flow before the one named in the answer",),
    "reject_tg(), nf_send_unreach(), nf_send_reset()", ("dropped_by_rule",),
)  # fmt: skip
_add(
    REASON, "dropped_not_for_us", "Not addressed to this host on layer 2",
    "The frame came as a layer-2 broadcast or multicast, or for another MAC address; a router forwards only what is "
    "addressed to it.",
    "Only visible in a capture on the router; pkttype is not HOST.",
    ("look for the sender's wrong neighbour entry: ip neigh; or for a bridge that floods",),
    "ip_forward(), ip_rcv()", ("neighbour_failed",),
)  # fmt: skip
_add(
    REASON, "hotdrop", "Dropped as malformed by a match",
    "A match could not even read the header it looks at (a TCP fragment at offset 8, a truncated header, a bad option "
    "length) and drops the packet on the spot: the rule need not match and counts nothing.",
    "Packets vanish and no counter moves.",
    ("look at the packet in a capture; a tunnel or offload that cuts headers is the usual cause",),
    "xt_action_param.hotdrop, tcp_mt()", ("dropped_by_rule",),
)  # fmt: skip
_add(
    REASON, "queued", "Handed to a program (NFQUEUE)",
    "The packet waits in a queue until a program in user space decides; what it decides is beyond the model. Whether "
    "anybody listens is in the snapshots that nattrace takes; of others a listener is assumed.",
    "cat /proc/net/netfilter/nfnetlink_queue: a line per queue with a listener; columns 6 and 7 count drops.",
    ("ask the program (fail2ban, suricata, an agent) for its verdict",
     "--queue-bypass lets packets pass while the program is down"),
    "nf_queue(), nfqnl_enqueue_packet()", ("queue_without_listener",),
)  # fmt: skip
_add(
    REASON, "queue_without_listener", "NFQUEUE, but no program listens",
    "The rule hands the packet to a queue that nobody has opened, and --queue-bypass is not given: the kernel drops it.",
    "Everything that the rule matches vanishes; the queue number is missing in /proc/net/netfilter/nfnetlink_queue.",
    ("start the program", "or add --queue-bypass to the rule, if passing unseen is acceptable"),
    "__nf_queue()", ("queued",),
)  # fmt: skip
_add(
    REASON, "stolen", "Taken over by a target",
    "A target keeps the packet and does something of its own with it; it goes no further by itself.",
    "The packet is gone, but not dropped: no drop counter grows.",
    (), "NF_STOLEN", ("stolen_synproxy",),
)  # fmt: skip
_add(
    REASON, "stolen_synproxy", "Taken over by SYNPROXY",
    "SYNPROXY answers the client's SYN itself with a cookie and opens the connection to the server only after the "
    "client's ACK. The SYN of the client never reaches the server.",
    "The client sees the handshake succeed even where the server is down; conntrack -S … or "
    "/proc/net/stat/synproxy counts.",
    ("needs -t raw … -p tcp --syn -j CT --notrack and nf_conntrack_tcp_loose=0; "
     "the SYNPROXY rule matches --ctstate INVALID,UNTRACKED",),
    "synproxy_tg4()", ("synproxy_bad_cookie", "conntrack_invalid"),
)  # fmt: skip
_add(
    REASON, "synproxy_bad_cookie", "ACK without a SYNPROXY cookie",
    "The ACK does not return a cookie that SYNPROXY gave out lately: no handshake went before it, or too long ago.",
    "Connections that existed before the rule was loaded hang.",
    ("accept ESTABLISHED before the SYNPROXY rule", "set net.netfilter.nf_conntrack_tcp_loose=0 as its manual asks"),
    "synproxy_recv_client_ack()", ("stolen_synproxy",),
)  # fmt: skip
_add(
    REASON, "tproxy_no_socket", "TPROXY found no transparent socket",
    "TPROXY looks for the connection of the packet, then for a listener on --on-ip:--on-port; the socket must have "
    "IP_TRANSPARENT. There is none, so the packet is dropped (nftables' tproxy would go on instead).",
    "The counter of the TPROXY rule grows, the proxy sees nothing.",
    ("start the proxy; ss -lntup --inet-sockopt shows 'transparent'",
     "delivery also needs: ip rule add fwmark 1 lookup 100; ip route add local 0.0.0.0/0 dev lo table 100"),
    "tproxy_tg4(), nf_tproxy_get_sock_v4()", ("no_listener",),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------- forwarding

_add(
    REASON, "bad_ip_header", "Discarded for its IP header",
    "The IP header is not acceptable: a wrong checksum, a version or length that cannot be, or options that are refused.",
    "InHdrErrors or InCsumErrors grow in /proc/net/snmp (nstat -az); the drop reason is IP_CSUM or IP_INHDR.",
    ("tcpdump -vv on the receiver shows what is wrong", "look for what changes packets on the way (offload, tunnels)"),
    "ip_rcv_core()", ("kernel_drop",),
)  # fmt: skip
_add(
    REASON, "kernel_drop", "Discarded by the kernel, outside of rules and routes",
    "Something other than a rule, a route or a neighbour threw the packet away: a checksum, the state of a TCP connection, "
    "a full buffer or queue, tc, XDP, a device. The kernel's own drop reason says which.",
    "nattrace trace names the reason and the kernel function; dropwatch or perf trace -e skb:kfree_skb show it too.",
    ("nattrace explain SKB_DROP_REASON_…   explains each of the kernel's reasons",),
    "kfree_skb_reason()", ("bad_ip_header",),
)  # fmt: skip
_add(
    REASON, "ip_forward_disabled", "This host does not forward",
    "The packet is for somebody else and net.ipv4.ip_forward is 0: it is dropped in the routing decision, after "
    "PREROUTING and before FORWARD, silently, whatever rules and routes say.",
    "PREROUTING counters grow, FORWARD counters do not; no conntrack entry appears; no ICMP error.",
    ("sysctl -w net.ipv4.ip_forward=1   (writing it also resets forwarding on every interface)",
     "keep it: echo net.ipv4.ip_forward=1 > /etc/sysctl.d/50-forward.conf"),
    "ip_route_input_slow()", ("forwarding_disabled_on_interface",),
)  # fmt: skip
_add(
    REASON, "forwarding_disabled_on_interface", "Forwarding is off on the input interface",
    "net.ipv4.conf.IN.forwarding decides for packets that come in by IN; the output interface does not matter. Replies "
    "come in by the other interface and need it there too.",
    "One direction works, the other vanishes without an ICMP error.",
    ("sysctl -w net.ipv4.conf.IN.forwarding=1",),
    "IN_DEV_FORWARD(), ip_route_input_slow()", ("ip_forward_disabled",),
)  # fmt: skip
_add(
    REASON, "bridge_hairpin_off", "The bridge does not send a frame back out of its port",
    "Destination NAT turned the packet to somebody behind the very port of the bridge that it came in by, often to its own "
    "sender; a bridge never sends a frame back where it came from, unless that port is in hairpin mode.",
    "A container or pod reaches a service of its own from everywhere but itself; PREROUTING counters grow, FORWARD and "
    "POSTROUTING do not; no ICMP error.",
    ("ip link set PORT type bridge_slave hairpin on",
     "with MASQUERADE for such connections, so that the answer comes back through the bridge's host"),
    "should_deliver() of net/bridge/br_forward.c; br_nf_pre_routing_finish()", ("no_return_route", "reply_bypasses_nat"),
)  # fmt: skip
_add(
    REASON, "rp_filter", "Reverse-path filter",
    "The route back to the source does not lead out of the interface that the packet came in by (strict, 1), or does "
    "not exist (loose, 2). The effective value is the larger one of conf.all and conf.IN.",
    "PREROUTING counters grow, nothing after; IPReversePathFilter grows in /proc/net/netstat; 'martian source' in the "
    "log with log_martians=1.",
    ("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.IN.rp_filter=2   (loose)",
     "or give the reverse lookup the same rules and routes; with marks also src_valid_mark=1"),
    "__fib_validate_source()", ("src_valid_mark_off", "asymmetric_return", "martian_source"),
)  # fmt: skip
_add(
    REASON, "martian_source", "Impossible source address",
    "The source cannot be true on this interface: 127/8 from outside, a multicast or broadcast address, 0.0.0.0, or an "
    "address of this host itself.",
    "'martian source' in the log with log_martians=1; InMartianSrc or a silent drop after PREROUTING.",
    ("find the sender or the NAT rule that makes such a source",
     "own addresses from outside (looped cables, two namespaces): net.ipv4.conf.IN.accept_local=1"),
    "ip_route_input_slow(), fib_validate_source()", ("accept_local_off", "rp_filter", "route_localnet_off"),
)  # fmt: skip
_add(
    REASON, "martian_destination", "Impossible destination address",
    "The destination cannot be reached from outside: 0.0.0.0, or 127/8 that arrives by a device other than lo (also "
    "after DNAT to 127.0.0.1).",
    "Dropped after PREROUTING; 'martian destination' in the log with log_martians=1.",
    ("for DNAT to 127.0.0.1: sysctl -w net.ipv4.conf.IN.route_localnet=1, or use REDIRECT and listen on the address "
     "of the interface",),
    "ip_route_input_slow()", ("route_localnet_off", "martian_source"),
)  # fmt: skip
_add(
    REASON, "route_localnet_off", "127/8 is kept off the network",
    "A packet from or to 127.0.0.0/8 would enter or leave by a real interface, which route_localnet=0 forbids. A local "
    "sender whose packet was DNATed from 127.x to a remote address gets EINVAL.",
    "DNAT to 127.0.0.1 'does nothing'; send() fails with Invalid argument.",
    ("sysctl -w net.ipv4.conf.DEV.route_localnet=1", "and for 127.x → remote also -t nat -A POSTROUTING -o DEV -j MASQUERADE"),
    "ip_route_input_slow(), ip_route_output_key_hash_rcu()", ("martian_destination",),
)  # fmt: skip
_add(
    REASON, "accept_local_off", "Own address as the source of a received packet",
    "The packet carries an address of this very host as its source. Without accept_local on the input interface that "
    "counts as spoofed.",
    "Traffic between two interfaces (or bridges, VRFs, proxies) of one host vanishes after PREROUTING.",
    ("sysctl -w net.ipv4.conf.IN.accept_local=1",),
    "__fib_validate_source()", ("martian_source", "rp_filter"),
)  # fmt: skip
_add(
    REASON, "ttl_exceeded", "TTL used up",
    "The TTL is 1 or less where the packet would have to be forwarded; it is dropped before FORWARD and the sender is "
    "told (ICMP 11/0). A routing loop ends like this too.",
    "traceroute shows the router; ICMP time exceeded in a capture.",
    ("-t mangle -A PREROUTING … -j TTL --ttl-inc 1   where a sender deliberately uses TTL 1 (multicast, some tethering)",
     "otherwise look for the loop: nattrace why … shows each hop"),
    "ip_forward()", ("looped",),
)  # fmt: skip
_add(
    REASON, "fragmentation_needed", "Too big for the next link, and DF is set",
    "The packet is larger than the MTU of the outgoing route and may not be fragmented: dropped before FORWARD, the "
    "sender is told the MTU (ICMP 3/4). A local sender gets EMSGSIZE.",
    "Small packets pass, large ones hang (SSH works, scp stalls), above all where ICMP 3/4 is filtered on the way.",
    ("let ICMP 3/4 through everywhere",
     "iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"),
    "ip_forward(), ip_exceeds_mtu()", ("ttl_exceeded",),
)  # fmt: skip
_add(
    REASON, "looped", "Goes round until the TTL ends",
    "Two or more hosts route the packet to each other. Each pass takes one from the TTL.",
    "Load on the link between them; time exceeded from one of the two routers.",
    ("correct the default route or the missing more specific route on one of them",
     "add a blackhole route for the part of a pool that is not in use"),
    "ip_forward()", ("ttl_exceeded", "no_return_route"),
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------- routing

_add(
    REASON, "no_route", "No route",
    "No routing rule and table gives a route to the destination (as it is after PREROUTING, so after DNAT). A router "
    "tells the sender net unreachable (ICMP 3/0); a local sender gets ENETUNREACH before OUTPUT sees anything.",
    "Network is unreachable; ICMP 3/0.",
    ("ip route get DST from SRC iif IN mark M   shows the same decision", "ip route add DST/LEN via GATEWAY dev DEV"),
    "fib_lookup()", ("no_return_route", "route_unreachable"),
)  # fmt: skip
_add(
    REASON, "route_unreachable", "An unreachable route",
    "The route that matches best has the type unreachable, or a rule says so: the sender is told host unreachable "
    "(ICMP 3/1); a local one gets EHOSTUNREACH (rule: ENETUNREACH).",
    "No route to host, at once.",
    ("ip route show table all type unreachable", "ip route del unreachable DST/LEN, or add a more specific route"),
    "fib_props[RTN_UNREACHABLE]", ("route_prohibit", "route_blackhole"),
)  # fmt: skip
_add(
    REASON, "route_prohibit", "A prohibit route",
    "The route or rule forbids the destination: the sender is told administratively prohibited (ICMP 3/13), a local "
    "one gets EACCES.",
    "Permission denied on connect() or send() although no firewall rule matches.",
    ("ip route show table all type prohibit; ip rule show",),
    "fib_props[RTN_PROHIBIT]", ("route_unreachable",),
)  # fmt: skip
_add(
    REASON, "route_blackhole", "A blackhole route",
    "The route that matches best is a blackhole: dropped in silence; a local sender gets EINVAL.",
    "Time-outs on a router, Invalid argument locally. Null routes of pools, of kube and of route daemons look so.",
    ("ip route show table all type blackhole", "ip route del blackhole DST/LEN, or add the more specific route"),
    "fib_props[RTN_BLACKHOLE]", ("rule_blackhole", "route_unreachable"),
)  # fmt: skip
_add(
    REASON, "rule_blackhole", "A routing rule with the action blackhole",
    "ip rule … blackhole matched before any table was looked at: dropped in silence; a local sender gets EINVAL.",
    "As route_blackhole, but ip route get with another mark or source works.",
    ("ip rule show; ip rule del pref N",),
    "fib4_rule_action()", ("route_blackhole",),
)  # fmt: skip
_add(
    REASON, "neighbour_failed", "The next hop does not answer on layer 2",
    "Nobody answers ARP (neighbour discovery) for the gateway or the destination. After about three seconds the packet "
    "is dropped and the sender is told host unreachable (ICMP 3/1); a local one gets EHOSTUNREACH. With DNAT the error "
    "comes from the original destination.",
    "ip neigh shows FAILED or INCOMPLETE; No route to host after three seconds.",
    ("check address, netmask, VLAN and link of the next hop; ip neigh; arping -I DEV ADDRESS",
     "an address that only exists in a NAT rule must be configured, or routed to this host, or proxied: "
     "ip neigh add proxy ADDRESS dev DEV"),
    "neigh_timer_handler(), arp_error_report()", ("no_route", "private_source_leaves"),
)  # fmt: skip
_add(
    REASON, "send_failed", "The local send failed before a packet existed",
    "Routing refused the sender's request (bound address or device, no route, forbidden route), so no rule in OUTPUT "
    "ever saw a packet; nat OUTPUT cannot help. errno says how.",
    "send() or connect() returns an error at once; OUTPUT counters do not move.",
    ("ip route get DST from SRC oif DEV uid UID mark M",),
    "ip_route_output_flow()", ("no_route", "source_not_owned"),
)  # fmt: skip

# ------------------------------------------------------------------------------------------- conntrack and NAT

_add(
    REASON, "conntrack_clash", "Clash with an existing connection",
    "When the new entry was to be confirmed, another entry already used the same addresses and ports in the same zone. "
    "The packet is dropped (for UDP the existing entry may be adopted). Typical: a fixed SNAT port, or ESP and other "
    "protocols without ports from two inside hosts to one peer.",
    "insert_failed grows in conntrack -S; the second client hangs, the first works.",
    ("give SNAT or MASQUERADE a port range, not one port", "use several source addresses, or zones"),
    "__nf_conntrack_confirm(), nf_ct_resolve_clash()", ("nat_ports_exhausted", "conntrack_full"),
)  # fmt: skip
_add(
    REASON, "conntrack_full", "Connection table full",
    "The namespace holds nf_conntrack_max entries and none could be evicted: packets of new connections are dropped "
    "before any nat or filter rule; existing connections go on.",
    "'nf_conntrack: table full, dropping packet' in the log; early_drop and drop grow in conntrack -S.",
    ("conntrack -D -s ADDRESS   (of whoever has most of the entries)",
     "sysctl -w net.netfilter.nf_conntrack_max=N   (in the initial namespace)",
     "shorten time-outs (for entries to come)",
     "-t raw … -j CT --notrack for bulk traffic that needs no NAT"),
    "__nf_conntrack_alloc(), early_drop()", ("conntrack_clash",),
)  # fmt: skip
_add(
    REASON, "conntrack_invalid", "Not part of any connection (INVALID)",
    "Conntrack could not place the packet: TCP out of window or state, a first packet that cannot open a connection "
    "(SYN-ACK, RST, FIN), an ICMP error about an unknown flow, a bad checksum. Such packets are never translated: they "
    "keep their addresses.",
    "-m conntrack --ctstate INVALID counts; inside addresses leak to the outside; "
    "nf_conntrack_log_invalid=6 logs why.",
    ("drop them: iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
     "for asymmetric paths: sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1"),
    "nf_conntrack_in(), nf_conntrack_tcp_packet()", ("asymmetric_return", "zone_mismatch"),
)  # fmt: skip
_add(
    REASON, "nat_ports_exhausted", "No free port left for NAT",
    "Every port of the allowed range is taken towards this destination; the last one tried is kept, and the packet is "
    "dropped when its entry is to be confirmed.",
    "insert_failed grows in conntrack -S; only new connections to busy destinations fail.",
    ("widen --to-ports, add addresses to --to-source A-B, or spread over destinations",),
    "nf_nat_l4proto_unique_tuple()", ("conntrack_clash",),
)  # fmt: skip
_add(
    REASON, "masquerade_no_address", "MASQUERADE has no address to use",
    "The interface that the packet leaves by has no usable address (scope link and host do not count), nor has any "
    "other: the packet is dropped.",
    "'MASQUERADE: DEV ate my IP address' in older kernels' log; POSTROUTING counters grow, nothing leaves.",
    ("ip addr add ADDRESS/LEN dev DEV", "or -j SNAT --to-source ADDRESS"),
    "nf_nat_masquerade_ipv4(), inet_select_addr()", ("masquerade_interface_changed",),
)  # fmt: skip
_add(
    REASON, "masquerade_interface_changed", "A masqueraded connection changed its uplink",
    "MASQUERADE remembers the interface. A later packet of the connection would leave by another one, so the entry is "
    "killed and this packet dropped; the retransmission is translated anew, with the new uplink's address.",
    "After a fail-over established connections break, new ones work.",
    ("keep each connection on its uplink: CONNMARK --save-mark / --restore-mark and ip rule fwmark",
     "-j SNAT would keep the old source on the new uplink: worse"),
    "nf_nat_oif_changed(), nf_nat_inet_fn()", ("asymmetric_return",),
)  # fmt: skip

_add(
    REASON, "redirect_no_address", "REDIRECT has no address to use",
    "REDIRECT in PREROUTING sends the packet to the first address of the interface it came in by. That interface has "
    "none, so the packet is dropped.",
    "The counter of the REDIRECT rule grows, the local service sees nothing.",
    ("ip addr add ADDRESS/LEN dev IN", "or -j DNAT --to-destination an address of this host"),
    "nf_nat_redirect_ipv4()", ("masquerade_no_address",),
)  # fmt: skip
_add(
    REASON, "redirect_of_translated_flow", "An ICMP redirect about a translated flow",
    "A redirect (ICMP type 5) about a connection whose addresses are translated, or not yet decided, would tell the "
    "sender something wrong; the NAT hook drops it. With NAT loaded the first packet of each flow gets none.",
    "Redirects that plain routers send are missing; the flow itself goes on through the router.",
    (), "nf_nat_icmp_reply_translation()", ("asymmetric_return",),
)  # fmt: skip
_add(
    REASON, "nat_packet_too_short", "A GRE packet too short to translate",
    "To translate a GRE packet, NAT wants 8 bytes behind the IP header, half of which are optional fields. A packet "
    "without them and without contents is dropped. Real tunnels always carry more.",
    "The counter of the NAT rule grows, nothing leaves.",
    (), "gre_manip_pkt()", ("conntrack_clash",),
)  # fmt: skip
_add(
    REASON, "helper_expectation_failed", "A helper could not announce the second connection",
    "The conntrack helper saw the command that announces a further connection (FTP PORT or PASV …), but the "
    "expectation could not be made: too many, or no free port for its translation. The packet with the command is "
    "dropped.",
    "The control connection stalls at PORT or PASV; expect_create does not grow in conntrack -S.",
    ("conntrack -L expect", "end idle sessions, or wait for the expectations to expire"),
    "nf_ct_expect_related_report(), nf_nat_ftp()", ("helper_missing",),
)  # fmt: skip
_add(
    REASON, "helper_partial", "A command cut in two by TCP",
    "The helper found the beginning of a command that announces a connection at the end of a segment, without its end. "
    "It drops the segment in the hope of a retransmission that carries the whole line.",
    "Rare stalls of FTP control connections with tiny segments.",
    ("avoid senders that write the command byte by byte",),
    "nf_conntrack_ftp: help()", ("helper_missing", "helper_expectation_failed"),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------- undecided

_add(
    REASON, "unmodelled_match", "A match or target that is not modelled",
    "The outcome depends on something nattrace does not compute (an unknown extension, a native nft chain, random "
    "state); all branches are shown and none is chosen.",
    "certainty: unknown; outcomes lists the branches.",
    ("nattrace trace or confirm shows what the kernel decides",
     "--without FILE, --delete RULE or --set shows whether it matters"),
    "", ("missing_input",),
)  # fmt: skip
_add(
    REASON, "missing_input", "The snapshot lacks what decides",
    "A file or value is missing and its default leads to another outcome than other values would; the answer names "
    "the file.",
    "certainty: unknown; the assumption is listed.",
    ("nattrace snapshot captures everything; or add the file named in the answer",),
    "", ("unmodelled_match",),
)  # fmt: skip
_add(
    REASON, "too_many_worlds", "Too many possible outcomes",
    "The packet meets more random or unknown decisions than are followed; what was found until then is shown.",
    "certainty: unknown.",
    ("give the missing facts (observed values, missing files) or ask about a narrower flow",),
    "", ("missing_input", "unmodelled_match"),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------- diagnoses

_add(
    DIAGNOSIS, "switched_frame_filtered", "Rules of the IP layer stop a frame that a bridge switches",
    "With net.bridge.bridge-nf-call-iptables=1 (which Docker and Kubernetes set) frames between two ports of a bridge meet "
    "PREROUTING, FORWARD and POSTROUTING with the bridge as input and output interface, although nothing is routed.",
    "Containers or guests of one bridge and one network do not reach each other; FORWARD counters grow; ip_forward does "
    "not matter.",
    ("iptables -I FORWARD -i br0 -o br0 -j ACCEPT   (or -m physdev --physdev-is-bridged)",
     "sysctl -w net.bridge.bridge-nf-call-iptables=0   where nothing needs it (kube-proxy does)"),
    "br_nf_forward()", ("dropped_by_policy", "bridge_hairpin_off"),
)  # fmt: skip
_add(
    DIAGNOSIS, "nat_decided_earlier", "NAT was decided on an earlier pass",
    "A connection consults the nat table for its first packet only, once for the destination and once for the source. "
    "The flow crosses the host twice in one zone (a proxy, a transparent appliance, another namespace): the first pass "
    "decided 'no translation', so the MASQUERADE or SNAT rule on the second pass is skipped, although --ctstate may "
    "still say NEW.",
    "The counter of the nat rule stays 0; the packet leaves with its inside source.",
    ("give the passes different zones: iptables -t raw -A PREROUTING -i IN2 -s INSIDE -j CT --zone-orig 2",
     "a zone on one interface for both directions loses the reply: set it on both, or use --zone-orig"),
    "nf_nat_inet_fn(), IPS_SRC_NAT_DONE", ("zone_mismatch", "existing_entry"),
)  # fmt: skip
_add(
    DIAGNOSIS, "existing_entry", "The connection exists already",
    "A conntrack entry from before decides how the packet is translated; nat rules are not consulted again, whatever "
    "they say now.",
    "A new NAT rule works for new connections only; its counter does not move.",
    ("conntrack -D -s SRC -d DST -p PROTO --dport PORT   (drops this mapping; the next packet decides anew)",),
    "nf_nat_inet_fn(), resolve_normal_ct()", ("stale_entry", "nat_decided_earlier"),
)  # fmt: skip
_add(
    DIAGNOSIS, "stale_entry", "An old entry keeps an old mapping",
    "The entry was made under rules, routes or addresses that are gone. UDP and pings renew it with every packet, so "
    "it may live for ever.",
    "conntrack -L shows the old address in the reply tuple; restarting the client 'helps' after a pause.",
    ("conntrack -D --orig-src SRC", "after changes of NAT or addresses: conntrack -D --src-nat / --dst-nat, or -F"),
    "nf_ct_refresh_acct()", ("existing_entry",),
)  # fmt: skip
_add(
    DIAGNOSIS, "rule_shadowed", "An earlier rule decides first",
    "The rule would match, but a rule before it (in the chain, or in a chain it came through) already accepted, "
    "dropped or translated the packet.",
    "The counter of the later rule stays 0.",
    ("move it: iptables -t TABLE -I CHAIN N … before the rule named in the answer",),
    "ipt_do_table()", ("criterion_failed", "chain_not_consulted"),
)  # fmt: skip
_add(
    DIAGNOSIS, "criterion_failed", "One criterion of the rule does not hold",
    "The rule was reached; the answer names the first criterion that failed, what it wanted and what the packet had at "
    "that point (after translation and routing by earlier steps).",
    "The counter of the rule stays 0.",
    ("change the criterion; mind that FORWARD sees the destination after DNAT and the source before SNAT",),
    "ipt_do_table()", ("rule_shadowed", "wrong_chain_for_local"),
)  # fmt: skip
_add(
    DIAGNOSIS, "chain_not_consulted", "The packet does not come through that chain",
    "No base chain of its way leads there: received packets see INPUT or FORWARD, never both; forwarded ones never see "
    "OUTPUT; nat chains see the first packet of a connection only; a user chain needs a jump.",
    "All counters of the chain stay 0 for this flow.",
    ("put the rule into the chain that the answer names",),
    "", ("wrong_chain_for_local", "nat_decided_earlier"),
)  # fmt: skip
_add(
    DIAGNOSIS, "wrong_chain_for_local", "Locally sent packets skip PREROUTING",
    "Packets of this host itself go through OUTPUT, never through PREROUTING (except over lo, where nat is not "
    "consulted again). A DNAT, REDIRECT or MARK rule in PREROUTING does not apply to them.",
    "It works from other machines and not from the host itself.",
    ("iptables -t nat -A OUTPUT -d ADDRESS … -j DNAT --to-destination …   beside the PREROUTING rule",),
    "ip_local_out()", ("chain_not_consulted", "mark_too_late"),
)  # fmt: skip
_add(
    DIAGNOSIS, "mark_too_late", "The mark is set after routing",
    "Routing used the packet before the mark was there. Received packets must be marked in PREROUTING (raw or mangle), "
    "local ones in mangle OUTPUT, which routes again; in filter, raw, nat OUTPUT or POSTROUTING a mark changes no "
    "route.",
    "ip rule … fwmark never matches, although the MARK rule counts.",
    ("iptables -t mangle -A PREROUTING … -j MARK --set-mark N   (received)",
     "iptables -t mangle -A OUTPUT … -j MARK --set-mark N   (local)"),
    "ip_route_me_harder(), ipt_mangle_out()", ("wrong_chain_for_local", "src_valid_mark_off"),
)  # fmt: skip
_add(
    DIAGNOSIS, "source_chosen_before_rerouting", "A rerouted packet keeps the first uplink's address",
    "A local packet's source is chosen by the first routing decision, before OUTPUT. When a mark or DNAT makes the kernel "
    "route again, the way changes and the address does not.",
    "Packets leave by the second uplink with the address of the first; answers come back by the first, or are filtered.",
    ("iptables -t nat -A POSTROUTING -o UPLINK2 -j MASQUERADE", "or bind the program to an address and use ip rule from ADDRESS"),
    "ip_route_me_harder()", ("mark_too_late", "source_not_owned"),
)  # fmt: skip
_add(
    DIAGNOSIS, "tproxy_without_route", "TPROXY without the route to the proxy",
    "TPROXY changes no address: it attaches the packet to a local socket and marks it. Whether the packet is delivered is "
    "decided by routing, which needs a rule for the mark and a local route.",
    "The TPROXY rule counts, the proxy hears nothing, and clients reach the real server past it.",
    ("ip rule add fwmark MARK lookup 100", "ip route add local default dev lo table 100"),
    "nf_tproxy_get_sock_v4(), ip_rcv_finish_core()", ("tproxy_no_socket", "mark_too_late"),
)  # fmt: skip
_add(
    DIAGNOSIS, "dnat_too_wide", "A DNAT rule without a destination takes everything",
    "The rule names a port, but neither the address nor the interface that it is meant for: it matches what goes out to the "
    "world as well.",
    "Every site shows the certificate of the own server; a service works from outside and breaks everything inside.",
    ("iptables -t nat -R PREROUTING N -i UPLINK …", "or -d PUBLIC-ADDRESS, or -m addrtype --dst-type LOCAL"),
    "xt_dnat_target_v2()", ("reply_bypasses_nat",),
)  # fmt: skip
_add(
    DIAGNOSIS, "proxy_redirects_itself", "A proxy's own connections are redirected to it",
    "nat OUTPUT is met by everything that the host sends, the proxy's own requests too. Redirected to the proxy they come "
    "back to it, again and again.",
    "The proxy reports a forwarding loop or runs out of descriptors.",
    ("iptables -t nat -R OUTPUT N -m owner ! --uid-owner PROXY …",),
    "nf_nat_redirect_ipv4()", ("owner_never_matches", "looped"),
)  # fmt: skip
_add(
    DIAGNOSIS, "icmp_error_blocked", "The ICMP error that the sender needs is blocked",
    "A router that may not fragment tells the sender the size that fits. If a rule drops that message, on the router itself or "
    "on its way, the sender goes on with packets that are too big.",
    "Small requests work, big ones hang for ever (a path-mtu black hole).",
    ("iptables -I OUTPUT -p icmp --icmp-type fragmentation-needed -j ACCEPT   (and in FORWARD on the way)",
     "iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"),
    "__icmp_send()", ("fragmentation_needed",),
)  # fmt: skip
_add(
    DIAGNOSIS, "entry_expired", "The connection's entry is gone before the connection is",
    "An entry lives for as long after the last packet as a timeout says: 30 s for UDP that was answered once at most, 120 s "
    "for a stream, 300 s for TCP data without an acknowledgement, 5 days for TCP. After a longer silence the next packet of the "
    "outside meets no entry: it is not translated back, or a policy drops it.",
    "Works at first, dies when idle: SIP registrations, VPN tunnels, database sessions, ssh behind small routers.",
    ("keepalives more often than the timeout (persistent-keepalive, ServerAliveInterval, tcp_keepalive_time)",
     "sysctl -w net.netfilter.nf_conntrack_udp_timeout_stream=300   (each protocol has its own)"),
    "nf_ct_is_expired(), nf_conntrack_udp_packet()", ("stale_entry", "existing_entry"),
)  # fmt: skip
_add(
    DIAGNOSIS, "no_return_route", "There is no way back",
    "The packet arrives, but the answer has no route to the source as the receiver sees it (often an inside address "
    "that was not translated).",
    "A capture at the far end shows the request and no answer, or one that leaves by another interface.",
    ("add a route for the source network on the far side", "or translate the source on this side (MASQUERADE, SNAT)"),
    "fib_lookup()", ("private_source_leaves", "asymmetric_return"),
)  # fmt: skip
_add(
    DIAGNOSIS, "reply_bypasses_nat", "The reply does not come back through the NAT host",
    "The destination was translated, and the server answers the client directly (same network, other gateway): the "
    "client gets an answer from an address it never asked and ignores it.",
    "The client sends RST or ICMP port unreachable at the answer; works from other networks (hairpin).",
    ("translate the source too: iptables -t nat -A POSTROUTING -s LAN -d SERVER … -j MASQUERADE",
     "or split DNS, or route the server's answers through this host"),
    "nf_nat_packet()", ("asymmetric_return", "no_return_route"),
)  # fmt: skip
_add(
    DIAGNOSIS, "asymmetric_return", "The reply takes another way",
    "Request and reply pass different interfaces or hosts. Stateful rules, NAT and reverse-path filters on either way "
    "see half a connection.",
    "--ctstate INVALID counts; rp_filter drops; the reply leaves the wrong uplink with the right source.",
    ("bind the connection to its uplink: -t mangle PREROUTING -i UPLINK -j CONNMARK --set-mark N; "
     "-i LAN -j CONNMARK --restore-mark; ip rule add fwmark N lookup TABLE",),
    "", ("rp_filter", "no_return_route", "conntrack_invalid"),
)  # fmt: skip
_add(
    DIAGNOSIS, "zone_mismatch", "The reply is looked up in another zone",
    "The entry was made in one conntrack zone, the reply arrives where another zone (or none) is set: it is not found, "
    "is not translated back and starts as NEW or ends at this host.",
    "conntrack -L -o zone shows the entry UNREPLIED; the host itself answers with RST or port unreachable.",
    ("set the zone on the reply's interface too: -t raw -A PREROUTING -i UPLINK -d … -j CT --zone N",
     "or use --zone-orig N, which keeps the reply in zone 0"),
    "nf_ct_zone_id(), resolve_normal_ct()", ("nat_decided_earlier",),
)  # fmt: skip
_add(
    DIAGNOSIS, "helper_missing", "No helper for a protocol with second connections",
    "FTP, TFTP, SIP, PPTP … announce further connections in their data. Helpers are no longer assigned by themselves, "
    "so these are NEW and not RELATED, and their addresses are not translated.",
    "FTP logs in and hangs at LIST; SIP rings without sound.",
    ("iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp   (and in OUTPUT for local clients)",
     "modprobe nf_nat_ftp   where addresses in the data must be translated"),
    "xt_ct_set_helper(), nf_conntrack_helper", ("criterion_failed",),
)  # fmt: skip
_add(
    DIAGNOSIS, "source_not_owned", "The source is not an address of this host",
    "A local packet, or a translated one, carries a source address that no interface of the host has; answers to it "
    "are not delivered here unless somebody routes or proxies that address.",
    "Requests leave, answers stop at ARP: who-has SOURCE without an answer on the uplink. A program that binds to it "
    "gets EADDRNOTAVAIL or EINVAL (then this is the reason of the outcome).",
    ("ip addr add ADDRESS/32 dev DEV", "or have the upstream router route the address to this host",
     "for a program that binds to it: net.ipv4.ip_nonlocal_bind=1, IP_FREEBIND or IP_TRANSPARENT"),
    "inet_addr_type(), ip_route_output_key_hash_rcu()", ("neighbour_failed", "no_return_route"),
)  # fmt: skip
_add(
    DIAGNOSIS, "listener_bound_elsewhere", "The service listens on another address",
    "A socket listens on the port, but on an address or device that is not the packet's after translation (127.0.0.1, "
    "another interface, IPv6 only).",
    "Connection refused from outside, works on the host itself.",
    ("ss -lntup", "configure the service to listen on the packet's destination or on 0.0.0.0",
     "REDIRECT and DNAT to 127.0.0.1 differ: see route_localnet_off"),
    "inet_lookup_listener()", ("no_listener", "route_localnet_off"),
)  # fmt: skip
_add(
    DIAGNOSIS, "src_valid_mark_off", "The reverse-path check ignores the mark",
    "The reply's route depends on a mark, but rp_filter looks back with mark 0 unless src_valid_mark is 1, finds "
    "another interface and drops the packet.",
    "Marked multi-uplink set-ups and VPNs lose all replies on one uplink with rp_filter=1.",
    ("sysctl -w net.ipv4.conf.all.src_valid_mark=1   (the marked table needs routes back to the inside, too)",
     "or rp_filter=2 on that uplink"),
    "fib_validate_source(), IN_DEV_SRC_VMARK()", ("rp_filter", "mark_too_late"),
)  # fmt: skip
_add(
    DIAGNOSIS, "owner_never_matches", "-m owner has nothing to look at",
    "The match reads the socket that sends the packet. Forwarded packets and resets from REJECT have none; echo "
    "replies and ICMP errors belong to the kernel and to no user. A negated owner matches them all.",
    "--uid-owner never counts for forwarded traffic; ! --uid-owner counts everything.",
    ("mark or translate by source address or interface for forwarded traffic", "add --socket-exists beside a negation"),
    "owner_mt()", ("criterion_failed",),
)  # fmt: skip
_add(
    DIAGNOSIS, "other_backend", "The rule is in the other iptables backend",
    "iptables-legacy and iptables-nft keep separate tables, and the kernel runs both. What one tool lists, the other "
    "does not show; at equal priority the table that was registered last runs first.",
    "iptables -L is empty or harmless, yet packets are dropped or translated; iptables-save warns about legacy tables.",
    ("iptables-legacy-save; iptables-nft-save; nft list ruleset", "move all rules to one: update-alternatives --config iptables"),
    "nf_hook_entries_grow()", ("rule_shadowed",),
)  # fmt: skip
_add(
    DIAGNOSIS, "set_mismatch", "The set does not hold what the rule asks for",
    "The ipset has no element for the packet (or a nomatch element), the direction flags (src, dst) are the wrong way "
    "round, or the element has expired.",
    "ipset test SET ELEMENT says no.",
    ("ipset test SET ELEMENT; ipset add SET ELEMENT", "one flag for each dimension: --match-set SET src,dst"),
    "ip_set_test()", ("criterion_failed",),
)  # fmt: skip
_add(
    DIAGNOSIS, "private_source_leaves", "A private source leaves on the uplink",
    "The packet goes towards the Internet with a source that nobody there can answer (RFC 1918, 6598, 3927, 4193): "
    "source NAT did not happen.",
    "A capture on the uplink shows inside addresses and no answers.",
    ("iptables -t nat -A POSTROUTING -s INSIDE -o UPLINK -j MASQUERADE",
     "if such a rule exists, look at the diagnosis that says why it did not apply"),
    "", ("nat_decided_earlier", "existing_entry", "no_return_route"),
)  # fmt: skip
_add(
    DIAGNOSIS, "double_nat", "Translated twice",
    "Two hosts on the way, or two rules that act on two passes, both translate the same side. It works, but ports and "
    "addresses in logs no longer tell who it was, and inbound connections need two mappings.",
    "The far end sees the outer host's address; port forwards work from one side only.",
    ("exempt one: iptables -t nat -I POSTROUTING -s INSIDE -d … -j ACCEPT   (or RETURN) on the inner host",),
    "nf_nat_setup_info()", ("nat_decided_earlier",),
)  # fmt: skip
