"""Why the kernel threw a packet away, in plain words: by its drop reason, by the function where it has none, and by the
setting, rule, route, neighbour or socket of the snapshot that made it so.

    sentence("SKB_DROP_REASON_IP_RPFILTER")     # 'Reverse path filter: answers to this source would …'
    why = explain(name, place, packet, hop, host)
    why.code, why.text, why.evidence, why.cure
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ...sim.model.addr import AF_INET, AF_INET6, format_addr, parse_addr
from ...sim.model.packet import PROTO_NUMBER
from .drop_reasons import KERNEL_DROP, PREFIX, REASONS, RENAMED, TRANSPORT, DropReason, wireless

if TYPE_CHECKING:
    from ...sim.model.result import Hop
    from ...sim.model.world import Host
    from .told import Story

AFTER_DELIVERY = frozenset({f"{PREFIX}SOCKET_CLOSE", f"{PREFIX}QUEUE_PURGE"})
BY_CHAIN = frozenset({f"{PREFIX}NETFILTER_DROP"})
ANY = ("0.0.0.0", "::")

# Kernels before 5.17 give no reason, and later ones not always: the function that dropped the packet tells nearly as much.
# Of each function the reason it stands for; a sentence where none says it.
PLACES: dict[str, str] = {
    "nf_hook_slow": "NETFILTER_DROP", "nft_do_chain": "NETFILTER_DROP", "ipt_do_table": "NETFILTER_DROP",
    "ip6t_do_table": "NETFILTER_DROP", "nf_hook": "NETFILTER_DROP", "nf_hook_slow_list": "NETFILTER_DROP",
    "ip_rcv_core": "IP_INHDR", "ip6_rcv_core": "IP_INHDR", "ip_error": "IP_INADDRERRORS", "ip6_pkt_drop": "IP_INNOROUTES",
    "ip_local_deliver_finish": "IP_NOPROTO", "ip_protocol_deliver_rcu": "IP_NOPROTO", "ip6_input_finish": "IP_NOPROTO",
    "ip6_protocol_deliver_rcu": "IP_NOPROTO", "__udp4_lib_rcv": "NO_SOCKET", "__udp6_lib_rcv": "NO_SOCKET",
    "tcp_v4_rcv": "NO_SOCKET", "tcp_v6_rcv": "NO_SOCKET", "udp_destruct_common": "SOCKET_CLOSE",
    "udp_destruct_sock": "SOCKET_CLOSE", "inet_sock_destruct": "SOCKET_CLOSE", "sk_filter_trim_cap": "SOCKET_FILTER",
    "tcp_conn_request": "TCP_LISTEN_OVERFLOW", "arp_error_report": "NEIGH_FAILED", "ndisc_error_report": "NEIGH_FAILED",
    "neigh_invalidate": "NEIGH_FAILED", "__neigh_event_send": "NEIGH_FAILED", "neigh_resolve_output": "NEIGH_FAILED",
    "ip_finish_output2": "NEIGH_CREATEFAIL", "ip6_finish_output2": "NEIGH_CREATEFAIL", "ip_frag_expire": "FRAG_REASM_TIMEOUT",
    "ip6_frag_expire": "FRAG_REASM_TIMEOUT", "veth_xdp_rcv_skb": "XDP", "do_xdp_generic": "XDP",
    "enqueue_to_backlog": "CPU_BACKLOG", "tun_net_xmit": "FULL_RING", "__dev_queue_xmit": "QDISC_DROP",
    "ip_output": "IP_OUTNOROUTES", "packet_rcv": "PACKET_SOCK_ERROR", "tpacket_rcv": "PACKET_SOCK_ERROR",
}  # fmt: skip
TOLD_PLACES: dict[str, tuple[str, str]] = {
    "ip_rcv_finish": ("no_route", "Routing refused the packet on its way in."),
    "ip_forward": ("ttl_exceeded", "It could not be forwarded: its ttl is used up, or it is too large for the way on."),
    "ip6_forward": (
        "ttl_exceeded",
        "It could not be forwarded: its hop limit is used up, or it is too large for the way on.",
    ),
    "udp_queue_rcv_one_skb": (
        KERNEL_DROP,
        "The UDP socket refused it: its filter, its full buffer, or a wrong checksum.",
    ),
    "udp_queue_rcv_skb": (KERNEL_DROP, "The UDP socket refused it: its filter, its full buffer, or a wrong checksum."),
    "tcp_rcv_state_process": (KERNEL_DROP, "The segment does not fit the state of the TCP connection."),
    "tcp_rcv_established": (KERNEL_DROP, "The segment does not fit the TCP connection."),
    "tcp_data_queue": (KERNEL_DROP, "TCP did not take the data: old, or outside of the window."),
    "icmp_rcv": (KERNEL_DROP, "The ICMP message is malformed, or of a kind that is ignored."),
    "icmpv6_rcv": (KERNEL_DROP, "The ICMPv6 message is malformed, or of a kind that is ignored."),
    "ip_defrag": (KERNEL_DROP, "A fragment that does not fit the others."),
    "dev_hard_start_xmit": (KERNEL_DROP, "The device did not take the packet."),
    "veth_xmit": (KERNEL_DROP, "The other end of the veth pair did not take the packet."),
    "__netif_receive_skb_core": (
        KERNEL_DROP,
        "No protocol of this host takes frames of this type, or tc or XDP dropped it.",
    ),
    "ip6_mc_input": (KERNEL_DROP, "A multicast packet for a group that nobody on this host has joined."),
    "ip_mc_input": (KERNEL_DROP, "A multicast packet for a group that nobody on this host has joined."),
}


class Why(NamedTuple):
    """``evidence``: what in the snapshot made it so (file:line where known); ``cure``: commands or advice."""

    code: str
    text: str
    evidence: tuple[str, ...] = ()
    cure: tuple[str, ...] = ()


def find(name: str) -> DropReason | None:
    """A reason by its name, with or without the common prefix, in any case."""
    wanted = name.strip().upper().replace("-", "_")
    for full in (wanted, f"{PREFIX}{wanted}", f"SKB_{wanted}"):
        full = RENAMED.get(full, full)
        if full in REASONS:
            return REASONS[full]
    return wireless(wanted) if wanted.startswith("RX_DROP_") else None


def sentence(name: str) -> str:
    """The reason in plain words."""
    found = find(name)
    return found.sentence if found is not None else "A reason that this nattrace does not know yet."


def code(name: str) -> str:
    """Our own code for an outcome of this reason."""
    found = find(name)
    return found.code if found is not None else KERNEL_DROP


def transport(name: str) -> bool:
    """Whether the packet had reached a socket, or the place where sockets are looked up."""
    found = find(name)
    return found is not None and found.layer == TRANSPORT


def by_place(place: str) -> DropReason | None:
    """What the kernel function that dropped the packet (``nft_do_chain+0x3e8``) stands for."""
    function = place.partition("+")[0]
    for name in (function, function.partition(".")[0]):  # the compiler's parts: ip_rcv_core.isra.0
        if name in PLACES:
            return find(PLACES[name])
        if name in TOLD_PLACES:
            code_, told = TOLD_PLACES[name]
            return DropReason(name, "place", told, code_)
    return None


def untold(name: str) -> bool:
    """Whether the kernel gave no reason."""
    return name in (f"{PREFIX}NOT_SPECIFIED", "SKB_NOT_DROPPED_YET") or name.startswith("reason ")


def meant(name: str, place: str) -> DropReason:
    """The reason, or what the place stands for where none was given."""
    found = by_place(place) if untold(name) else find(name)
    return found or find(name) or DropReason(name, "other", sentence(name))


def explain(name: str, place: str, packet: dict[str, Any], hop: Hop | None, host: Host | None) -> Why:
    """What led to the drop: through the snapshot's ``host`` where that tells, else what the reason alone says."""
    function = place.partition("+")[0]
    told = by_place(place) if untold(name) else None
    reason = told or find(name)
    if reason is None:
        return Why(KERNEL_DROP, sentence(name))
    where = f" The kernel gives no reason; it was in {function}()." if untold(name) and function else ""
    plain = Why(reason.code, f"{reason.sentence}{where}", (), reason.cure)
    if host is None or hop is None:
        return plain
    special = _SPECIAL.get(reason.name.removeprefix(PREFIX))
    if special is None and untold(name):
        special = _AT_PLACE.get(function.partition(".")[0])
    return (special(packet, hop, host) if special is not None else None) or plain


# ----------------------------------------------------------------------------- what the snapshot says about it


def _setting(host: Host, name: str) -> tuple[str, str]:
    """(value, evidence) of a sysctl; an empty value where the snapshot has none."""
    found = host.sysctl.get(name)
    if found is None:
        return "", ""
    where = f" ({found.where})" if found.where else ""
    return found.value, f"{name} = {found.value}{where}"


def _conf(host: Host, dev: str, key: str, family: int = AF_INET) -> tuple[str, str]:
    version = "ipv6" if family == AF_INET6 else "ipv4"
    return _setting(host, f"net.{version}.conf.{dev.replace('.', '/')}.{key}")


def _family(packet: dict[str, Any]) -> int:
    return AF_INET6 if ":" in str(packet.get("src", "")) else AF_INET


def _rp_filter(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    dev = hop.in_dev or ""
    values = [_conf(host, scope, "rp_filter") for scope in ("all", dev)]
    mode = max((int(v) for v, _ in values if v.isdigit()), default=0)
    evidence = [e for v, e in values if v not in ("", "0")]
    back = _route_back(host, str(packet["src"]))
    text = f"Reverse path filter ({'strict' if mode == 1 else 'loose'}) on {dev}: "
    if back is None:
        text += f"there is no route to the source {packet['src']}"
    else:
        text += f"answers to {packet['src']} would leave by {back}"
    cure = (f"sysctl -w net.ipv4.conf.{dev}.rp_filter=2   (loose), and net.ipv4.conf.all.rp_filter no higher",
            f"or a route to the source: ip route add {packet['src']} dev {dev}")  # fmt: skip
    return Why("rp_filter", f"{text}.", tuple(evidence), cure)


def _route_back(host: Host, address: str) -> str | None:
    from ...sim.engine.routing import output
    from ...sim.engine.run import Ctx, Run
    from ...sim.model.state import WorldState
    from ...sim.model.world import World

    family, number = parse_addr(address)
    run = Run(WorldState(World({host.name: host})))
    rt = output(Ctx(run, host, run.ws.host(host.name), 3), family=family, dst=number)
    return rt.dev if rt.kind == "unicast" else None


def _no_route_in(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    """Neither its own address nor forwarded: forwarding off comes before everything a route could say."""
    family, dev = _family(packet), hop.in_dev or ""
    key = "net.ipv6.conf.all.forwarding" if family == AF_INET6 else "net.ipv4.ip_forward"
    value, evidence = _setting(host, key)
    if value == "0":
        text = f"{packet['dst']} is no address of {host.name}, and {host.name} does not forward ({key} = 0)."
        return Why("ip_forward_disabled", text, (evidence,), (f"sysctl -w {key}=1",))
    own, evidence = _conf(host, dev, "forwarding", family)
    if own == "0":
        text = f"{host.name} does not forward what comes in by {dev}."
        cure = f"sysctl -w net.{'ipv6' if family == AF_INET6 else 'ipv4'}.conf.{dev}.forwarding=1"
        return Why("forwarding_disabled_on_interface", text, (evidence,), (cure,))
    return _no_route(packet, hop, host)


def _no_route(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    text, where, code_ = _refused(packet, host)
    cure = (f"ip route get {packet['dst']}", f"ip route add {packet['dst']} via GATEWAY")
    return Why(code_, f"{host.name} has no way to {packet['dst']}: {text}.", where, cure)


def _refused(packet: dict[str, Any], host: Host) -> tuple[str, tuple[str, ...], str]:
    """(words, evidence, code): the route of the snapshot that refuses, or that there is none."""
    family, dst = parse_addr(str(packet["dst"]))
    kinds = {"unreachable": "route_unreachable", "prohibit": "route_prohibit", "blackhole": "route_blackhole"}
    for routes in (r for (f, _), r in host.routes.items() if f == family):
        for route in routes:
            if route.type in kinds and dst in route.prefix:
                where = (str(route.where),) if route.where else ()
                return f"a route of type {route.type} says so", where, kinds[route.type]
    return "no table has a route", (), "no_route"


def _martian(key: str, code_: str, words: str) -> Callable[[dict[str, Any], Hop, Host], Why | None]:
    def tell(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
        dev = hop.in_dev or ""
        values = [_conf(host, scope, key) for scope in ("all", dev)]
        if any(v not in ("", "0") for v, _ in values):
            return None
        evidence = tuple(e for _, e in values if e)
        return Why(
            code_,
            words.format(**packet, dev=dev, host=host.name),
            evidence,
            (f"sysctl -w net.ipv4.conf.{dev}.{key}=1",),
        )

    return tell


def _no_socket(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    if host.sockets is None or "dport" not in packet:
        return None
    proto, port = PROTO_NUMBER.get(str(packet["proto"])), packet["dport"]
    elsewhere = [s for s in host.sockets if s.proto == proto and s.lport == port and s.state in ("LISTEN", "UNCONN")]
    name = f"{packet['proto']} {packet['dst']}:{port}"
    if not elsewhere:
        text = f"Nothing on {host.name} listens on {packet['proto']} port {port}."
        return Why(
            "no_listener", text, (), (f"ss -ln | grep ':{port} '", "start the service, or send to its real port")
        )
    s = elsewhere[0]
    bound = format_addr(s.family, s.local) if s.local is not None else "any address"
    extra = f" on device {s.dev}" if s.dev else ""
    who = f" ({s.process})" if s.process else ""
    text = f"Port {port} is listened on{who}, but only at {bound}{extra}, not at {name}."
    evidence = (str(s.where),) if s.where else ()
    return Why(
        "listener_bound_elsewhere", text, evidence, (f"let the service listen on {packet['dst']} or on all addresses",)
    )


def _neighbour(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    dev = _leads_to(hop) or "?"
    route = _last_route(hop)
    nexthop = route.split("via ")[1].split()[0] if "via " in route else str(packet["dst"])
    known = [n for n in host.neighbours if n.dev == dev and format_addr(n.family, n.addr) == nexthop]
    evidence = tuple(str(n.where) for n in known if n.where)
    on = "the next hop" if "via " in route else "the destination itself, which the route takes to be on the link"
    cure = (f"arping -I {dev} {nexthop}", f"ip neigh show {nexthop} dev {dev}",
            "is the machine up, on this link, and is the prefix length of the address right?")  # fmt: skip
    return Why("neighbour_failed", f"Nobody on {dev} of {host.name} answers for {nexthop}, {on}.", evidence, cure)


def _leads_to(hop: Hop) -> str:
    """The device by which it would leave: of the hop, else of the last route that was looked up."""
    if hop.out_dev:
        return hop.out_dev
    route = _last_route(hop)
    return route.rpartition("dev ")[2].split()[0] if "dev " in route else ""


def _last_route(hop: Hop) -> str:
    """The last lookup of the packet's own way that found something, in words; not a check of its source."""
    own = [
        s for s in hop.steps if s.stage in ("routing", "rerouting") and not (s.note or "").startswith("is the source")
    ]
    return next((s.text for s in reversed(own) if s.text and "dev " in s.text), "")


def _on_its_way_in(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    """ip_rcv_finish_core(): options, or a route that says blackhole."""
    text, where, code_ = _refused(packet, host)
    if code_ != "no_route":
        return Why(code_, f"{packet['dst']}: {text}.", where, (f"ip route get {packet['dst']}",))
    found = [_conf(host, scope, "accept_source_route") for scope in ("all", hop.in_dev or "")]
    evidence = tuple(e for v, e in found if v == "0")
    text = (
        f"Refused before routing: an option of the IP header that {host.name} does not accept, such as a source route."
    )
    return Why("bad_ip_header", text, evidence, ("sysctl net.ipv4.conf.all.accept_source_route",))


def _too_big(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    link = host.links.get(_leads_to(hop))
    size = f"{packet.get('len')} octets" if packet.get("len") else "The packet"
    if link is None or not link.mtu:
        return None
    text = f"{size} do not fit through {link.name} of {host.name} (mtu {link.mtu}), and it must not be cut up."
    cure = (f"ip link set {link.name} mtu MORE, where the link really carries it",
            "iptables -t mangle -A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu")  # fmt: skip
    return Why("fragmentation_needed", text, (), cure)


def _netfilter(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    dropping = [s for s in reversed(hop.steps) if s.verdict == "DROP"]
    step = next((s for s in dropping if s.rule), dropping[0] if dropping else None)
    if step is None:
        return None
    if step.stage == "conntrack":
        count, limit = (
            _setting(host, "net.netfilter.nf_conntrack_count"),
            _setting(host, "net.netfilter.nf_conntrack_max"),
        )
        text = f"Connection tracking of {host.name} took no new entry"
        evidence = tuple(e for _, e in (count, limit) if e)
        return Why("conntrack_full", f"{text}: its table is full.", evidence, ("sysctl -w net.netfilter.nf_conntrack_max=MORE",
                   "conntrack -L | awk '{print $1}' | sort | uniq -c   (what fills it)"))  # fmt: skip
    if step.stage == "drop":
        return Why("conntrack_clash", "Behind the last chain: the entry could not be confirmed, for another one with the same "
                   "addresses and ports is in the table.", (), ("conntrack -L   (who holds the tuple)",))  # fmt: skip
    if step.rule:
        where = (str(step.where),) if step.where else ()
        text = f"{step.table} {step.chain} rule {step.rule} of {host.name}: {step.text}."
        return Why("dropped_by_rule", text, where, (f"iptables -t {step.table} -nvL {step.chain} --line-numbers",))
    return Why("dropped_by_rule", *_candidates(step, host))


def _candidates(step: Any, host: Host) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Rules of the chain that can drop, and its policy: (words, evidence, cure)."""
    table = next((t for t in host.tables if t.name == step.table and step.chain in t.chains), None)
    place = f"{step.table} {step.chain} of {host.name}"
    cure = (
        f"iptables -t {step.table} -nvL {step.chain} --line-numbers",
        "nattrace trace --rules --allow-changes names the rule",
    )
    if table is None:
        return f"A rule or the policy of {place}.", (), ("nft -a list ruleset", cure[1])
    chain = table.chains[step.chain]
    words = []
    if chain.policy == "DROP":
        words.append("its policy is DROP")
    evidence = (str(chain.where),) if chain.where and words else ()
    return f"A rule or the policy of {place}" + (f" ({words[0]})" if words else "") + ".", evidence, cure


def _other_host(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    text = f"The frame is for another machine's hardware address, not for {hop.in_dev} of {host.name}."
    link = host.links.get(hop.in_dev or "")
    mac = getattr(link, "mac", None)
    evidence = (f"{hop.in_dev} is {mac:012x}" if isinstance(mac, int) else f"{hop.in_dev} is {mac}",) if mac else ()
    return Why(
        "dropped_not_for_us", text, evidence, ("ip neigh flush all   (on the sender: a stale hardware address?)",)
    )


def _multicast_frame(packet: dict[str, Any], hop: Hop, host: Host) -> Why | None:
    found = [_conf(host, scope, "drop_unicast_in_l2_multicast") for scope in ("all", hop.in_dev or "")]
    return Why(code(f"{PREFIX}UNICAST_IN_L2_MULTICAST"), sentence(f"{PREFIX}UNICAST_IN_L2_MULTICAST"),
               tuple(e for v, e in found if v not in ("", "0")),
               (f"sysctl -w net.ipv4.conf.{hop.in_dev}.drop_unicast_in_l2_multicast=0",))  # fmt: skip


_AT_PLACE: dict[str, Callable[[dict[str, Any], Hop, Host], Why | None]] = {
    "ip_rcv_finish_core": _on_its_way_in,
}
_SPECIAL: dict[str, Callable[[dict[str, Any], Hop, Host], Why | None]] = {
    "IP_RPFILTER": _rp_filter,
    "IP_INADDRERRORS": _no_route_in,
    "IP_INNOROUTES": _no_route,
    "IP_OUTNOROUTES": _no_route,
    "IP_LOCAL_SOURCE": _martian(
        "accept_local", "accept_local_off", "{src} is an address of {host} itself, and {dev} lets no such source in."
    ),
    "IP_LOCALNET": _martian("route_localnet", "route_localnet_off", "{src} → {dst}: an address of 127.0.0.0/8 came in by {dev}."),
    "NO_SOCKET": _no_socket,
    "NEIGH_FAILED": _neighbour,
    "NEIGH_QUEUEFULL": _neighbour,
    "PKT_TOO_BIG": _too_big,
    "NETFILTER_DROP": _netfilter,
    "OTHERHOST": _other_host,
    "UNICAST_IN_L2_MULTICAST": _multicast_frame,
}  # fmt: skip


def explain_story(story: Story, host: Host | None) -> Why:
    """Of a story that ends in a drop: the reason, the answer that was sent about it, the snapshot."""
    end, hop = story.end, story.hops[-1] if story.hops else None
    why = explain(end.drop or "", end.place, story.packet, hop, host)
    answers = [(r.type, r.code) for r in story.responses if r.kind == "icmp"]
    v6 = ":" in str(story.packet.get("src", ""))
    if (11, 0) in answers or (v6 and (3, 0) in answers):
        where = hop.host if hop is not None else "a router"
        text = f"The ttl is used up at {where}, which would have to forward the packet; its sender was told."
        return Why("ttl_exceeded", text, (), ("traceroute   (a loop, or a ttl that is too low)",))
    if end.reason.code == "delivered_local":
        text = (
            f"A socket of {end.at.get('host')} took it and was closed, or connected anew, before the program read it."
        )
        return Why("delivered_local", text, (), ("of a FIN, or of what came too late, that is the ordinary end",))
    if end.outcome == "rejected":
        return why._replace(code="rejected_by_rule", text=f"{why.text.rstrip('.')} rejected it and told the sender.")
    too_big = (3, 4) in answers or (v6 and (2, 0) in answers)
    if too_big and hop is not None and host is not None:
        return _too_big(story.packet, hop, host) or why._replace(code="fragmentation_needed")
    return why
