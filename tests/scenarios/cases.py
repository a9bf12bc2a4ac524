"""What is true of each stage of the five situations: one table for two judges, the simulator and the kernel."""

from __future__ import annotations

from .evidence import (
    Case,
    Drawn,
    Pause,
    answered,
    blames,
    connect,
    counted,
    fails_with,
    never_sees,
    notes,
    passes,
    ping,
    reaches,
    sees,
    told,
    tracks,
    types,
    udp,
    unanswered,
)

ENETUNREACH, EMSGSIZE = 101, 90
OUTSIDE = "8.8.8.8"

# ------------------------------------------------------------------------------- 1 per-user-source


def _user(who: str, uid: int, source: str, rule: int | None) -> list[Case]:
    counters = {f"nat_POSTROUTING_{n}": int(n == rule) for n in (1, 2, 3)}
    entry = [f"10.0.2.15 → {OUTSIDE} | {OUTSIDE} → {source}"]
    return [
        Case(
            f"{what} of {who} leaves as {source}",
            "per-user-source",
            [packet],
            [
                sees("host:enp0s3", f"{source} → {OUTSIDE}", kind="out", ttl=64),
                sees("outside:eth0", f"{source} → {OUTSIDE}", ttl=63),
                reaches("host", OUTSIDE, ttl=63),
                counted("host", **counters),
                tracks("host", *left),
            ],
        )
        for what, packet, left in (
            ("a ping", ping("host", OUTSIDE, uid=uid), entry),
            (
                "a refused connection",
                connect("host", OUTSIDE, 443, uid=uid),
                [],
            ),  # a reset ends an entry nobody had answered
            ("a datagram to a closed port", udp("host", OUTSIDE, 53, uid=uid), entry),
        )
    ]


_OWNERS = [  # what the owner match makes of packets that the kernel itself sends: counting rules, one a form
    types("host", "iptables -A OUTPUT -m owner --uid-owner 0"),
    types("host", "iptables -A OUTPUT -m owner ! --uid-owner 1002"),
    types("host", "iptables -A OUTPUT -m owner --socket-exists"),
    types("host", "iptables -A OUTPUT -m owner ! --socket-exists"),
]

PER_USER = [
    *_user("userA", 1001, "10.0.2.101", 1),
    *_user("userB", 1002, "10.0.2.102", 2),
    *_user("userC", 1003, "10.0.2.103", 3),
    *_user("root", 0, "10.0.2.15", None),
    *_user("a user no rule names", 1500, "10.0.2.15", None),
    Case("a container's packet has no owner: it leaves with its own address", "per-user-source",
         [ping("container", OUTSIDE)], [
             sees("host:enp0s3", f"172.17.0.2 → {OUTSIDE}", kind="out", ttl=63),
             answered("container", OUTSIDE, ttl=62), counted("host", nat_POSTROUTING_1=0, nat_POSTROUTING_2=0, nat_POSTROUTING_3=0),
             tracks("host", f"172.17.0.2 → {OUTSIDE} | {OUTSIDE} → 172.17.0.2")]),
    Case("a container's packet is nobody's even when the container's own user is 1002", "per-user-source",
         [ping("container", OUTSIDE, uid=1002)], [sees("host:enp0s3", f"172.17.0.2 → {OUTSIDE}", kind="out")]),
    Case("a reset is the kernel's own: no user's rule takes it, and it answers from the address that was asked",
         "per-user-source", [*_OWNERS, connect("outside", "10.0.2.15", 9999)], [
             sees("host:enp0s3", "10.0.2.15 → 203.0.113.8", kind="out", flags="RA"), reaches("outside", "10.0.2.15", flags="RA"),
             counted("host", nat_POSTROUTING_1=0, nat_POSTROUTING_2=0, nat_POSTROUTING_3=0,
                     filter_OUTPUT_1=0, filter_OUTPUT_2=1, filter_OUTPUT_3=1, filter_OUTPUT_4=0)]),
    Case("an ICMP error is the kernel's own too", "per-user-source", [*_OWNERS, udp("outside", "10.0.2.15", 9999)], [
        sees("host:enp0s3", "10.0.2.15 → 203.0.113.8", kind="out", type=3, code=3), told("outside", (3, 3), "10.0.2.15"),
        counted("host", nat_POSTROUTING_1=0, nat_POSTROUTING_2=0, nat_POSTROUTING_3=0,
                filter_OUTPUT_1=0, filter_OUTPUT_2=1, filter_OUTPUT_3=1, filter_OUTPUT_4=0)]),
    Case("an echo reply is the kernel's own too", "per-user-source", [*_OWNERS, ping("outside", "10.0.2.15")], [
        answered("outside", "10.0.2.15"),
        counted("host", filter_OUTPUT_1=0, filter_OUTPUT_2=1, filter_OUTPUT_3=1, filter_OUTPUT_4=0)]),
    Case("an address of a user answers like any other when it is asked", "per-user-source",
         [ping("outside", "10.0.2.103")], [answered("outside", "10.0.2.103")]),
    Case("a masquerading router undoes it: outside, userB is the router", "per-user-source.masquerading-router",
         [ping("host", OUTSIDE, uid=1002)], [
             sees("host:enp0s3", f"10.0.2.102 → {OUTSIDE}", kind="out"), sees("router:in0", f"10.0.2.102 → {OUTSIDE}"),
             sees("outside:eth0", f"203.0.113.1 → {OUTSIDE}"), answered("host", OUTSIDE, ttl=63),
             never_sees("outside:eth0", f"10.0.2.102 → {OUTSIDE}"),
             tracks("host", f"10.0.2.15 → {OUTSIDE} | {OUTSIDE} → 10.0.2.102"),
             tracks("router", f"10.0.2.102 → {OUTSIDE} | {OUTSIDE} → 203.0.113.1")]),
    Case("a masquerading router makes two users one", "per-user-source.masquerading-router",
         [ping("host", OUTSIDE, uid=1001), ping("host", OUTSIDE, uid=1003, icmp_id=4712)], [
             sees("outside:eth0", f"203.0.113.1 → {OUTSIDE}", times=2), counted("router", nat_POSTROUTING_1=2)]),
]  # fmt: skip

# ----------------------------------------------------------------------------------- 2 two-uplinks

INTERNET = "203.0.113.9"
A, B = "172.31.26.10", "172.31.26.176"
_A_OUT, _B_OUT = f"54.178.213.178 → {INTERNET}", f"54.178.197.195 → {INTERNET}"


def _uplink(client: str, dev: str, own: str, public: str) -> list:
    return [
        sees("nat:eth0", f"{A if client == 'ec2a' else B} → {INTERNET}", kind="in"),
        sees(f"nat:{dev}", f"{own} → {INTERNET}", kind="out"), sees("internet:eth0", f"{public} → {INTERNET}"),
        sees(f"nat:{dev}", f"{INTERNET} → {own}", kind="in"), answered(client, INTERNET, ttl=61),
    ]  # fmt: skip


_RULE_B = "ip rule add from 172.31.26.176 lookup 10001 priority 32764"

TWO_UPLINKS = [
    *(Case(f"with ip_forward=0 a {what} of {client} does not leave", "two-uplinks.nothing-set", [packet(client, *to)], [
        sees("nat:eth0", f"{address} → {INTERNET}", kind="in"), never_sees("nat:eth1"),
        never_sees("internet:eth0"), unanswered(client), counted("nat", nat_POSTROUTING_1=0, nat_POSTROUTING_2=0),
        tracks("nat"), blames("ip_forward_disabled", "nat/sysctl.txt")])
      for client, address in (("ec2a", A), ("ec2b", B))
      for what, packet, to in (("ping", ping, (INTERNET,)), ("datagram", udp, (INTERNET, 53)), ("connection", connect, (INTERNET, 443)))),
    Case("forwarding alone sends EC2-A out by eth0", "two-uplinks.forwarding", [ping("ec2a", INTERNET)],
         [*_uplink("ec2a", "eth0", "172.31.0.10", "54.178.213.178"), counted("nat", nat_POSTROUTING_1=1, nat_POSTROUTING_2=0)]),
    Case("forwarding alone sends EC2-B out by eth0 too", "two-uplinks.forwarding", [ping("ec2b", INTERNET)],
         [*_uplink("ec2b", "eth0", "172.31.0.10", "54.178.213.178"), counted("nat", nat_POSTROUTING_1=1, nat_POSTROUTING_2=0)]),
    Case("with the rule EC2-A still leaves by eth0", "two-uplinks", [ping("ec2a", INTERNET)], [
        *_uplink("ec2a", "eth0", "172.31.0.10", "54.178.213.178"), counted("nat", nat_POSTROUTING_1=1, nat_POSTROUTING_2=0),
        tracks("nat", f"{A} → {INTERNET} | {INTERNET} → 172.31.0.10"),
        tracks("provider", f"{A} → {INTERNET} | {INTERNET} → {A}", f"172.31.0.10 → {INTERNET} | {INTERNET} → 54.178.213.178")]),
    Case("with the rule EC2-B leaves by eth1, as the address of eth1", "two-uplinks", [ping("ec2b", INTERNET)], [
        *_uplink("ec2b", "eth1", "172.31.8.208", "54.178.197.195"), counted("nat", nat_POSTROUTING_1=0, nat_POSTROUTING_2=1),
        tracks("nat", f"{B} → {INTERNET} | {INTERNET} → 172.31.8.208"),
        notes("nat", "routing", "rule 32764")]),
    *(Case(f"a {what} of EC2-B is seen outside as 54.178.197.195", "two-uplinks", [packet],
           [sees("internet:eth0", _B_OUT), reaches("ec2b", INTERNET), counted("nat", nat_POSTROUTING_2=1)])
      for what, packet in (("connection", connect("ec2b", INTERNET, 443)), ("datagram", udp("ec2b", INTERNET, 53)))),
    Case("both at once are told apart outside", "two-uplinks", [ping("ec2a", INTERNET), ping("ec2b", INTERNET)],
         [sees("internet:eth0", _A_OUT, times=1), sees("internet:eth0", _B_OUT, times=1),
          answered("ec2a", INTERNET), answered("ec2b", INTERNET)]),
    Case("strict rp_filter on both uplinks changes nothing for EC2-A", "two-uplinks.strict", [ping("ec2a", INTERNET)],
         _uplink("ec2a", "eth0", "172.31.0.10", "54.178.213.178")),
    Case("strict rp_filter lets EC2-B's replies in by eth1: the reverse look-up asks with EC2-B's own address", "two-uplinks.strict",
         [ping("ec2b", INTERNET)], _uplink("ec2b", "eth1", "172.31.8.208", "54.178.197.195")),
    Case("while no rule answers for eth1's own address, strict rp_filter keeps eth1 from answering even ARP", "two-uplinks.strict",
         [types("nat", "ip rule del from 172.31.8.208 lookup 10001 priority 32765"), ping("internet", "54.178.197.195")],
         [never_sees("nat"), told("internet", (3, 1), "54.178.197.195"), blames("neighbour_failed")]),
    Case("a ping of EC2-B that began before the rule is killed once and starts afresh by eth1", "two-uplinks.forwarding",
         [ping("ec2b", INTERNET), types("nat", _RULE_B), ping("ec2b", INTERNET, seq=2), ping("ec2b", INTERNET, seq=3)], [
             sees("internet:eth0", f"54.178.213.178 → {INTERNET}", seq=1), never_sees("internet:eth0", _A_OUT, seq=2),
             never_sees("internet:eth0", _B_OUT, seq=2), sees("nat:eth0", f"{B} → {INTERNET}", seq=2),
             sees("internet:eth0", _B_OUT, seq=3), answered("ec2b", INTERNET, seq=3),
             counted("nat", nat_POSTROUTING_1=1, nat_POSTROUTING_2=1),
             tracks("nat", f"{B} → {INTERNET} | {INTERNET} → 172.31.8.208"), blames("masquerade_interface_changed", packet=1)]),
    Case("a snapshot with the running ping in it tells the same: the next echo is lost with its entry", "two-uplinks.running-ping",
         [ping("ec2b", INTERNET, seq=2), ping("ec2b", INTERNET, seq=3)], [
             sees("nat:eth0", f"{B} → {INTERNET}", seq=2), never_sees("nat:eth1", f"172.31.8.208 → {INTERNET}", seq=2),
             sees("internet:eth0", _B_OUT, seq=3), answered("ec2b", INTERNET, seq=3), counted("nat", nat_POSTROUTING_2=1),
             blames("masquerade_interface_changed", "nat/conntrack.txt:1", packet=0)]),
    Case("with SNAT instead of MASQUERADE it would keep the old source on the new uplink", "two-uplinks.forwarding",
         [types("nat", "iptables -t nat -R POSTROUTING 1 -s 172.31.0.0/16 -o eth0 -j SNAT --to-source 172.31.0.10"),
          ping("ec2b", INTERNET), types("nat", _RULE_B), ping("ec2b", INTERNET, seq=2)], [
              sees("nat:eth1", f"172.31.0.10 → {INTERNET}", seq=2, kind="out"), sees("internet:eth0", _A_OUT, seq=2)]),
    Case("flushing conntrack moves a running ping over without loss", "two-uplinks.forwarding",
         [ping("ec2b", INTERNET), types("nat", _RULE_B), types("nat", "conntrack -F"), ping("ec2b", INTERNET, seq=2)],
         [sees("internet:eth0", _B_OUT, seq=2), answered("ec2b", INTERNET, seq=2)]),
    Case("the masquerade address is the one of the interface, not of the route's src", "two-uplinks",
         [types("nat", "ip route replace default via 172.31.0.1 dev eth1 src 172.31.0.10 table 10001"), ping("ec2b", INTERNET)],
         [sees("nat:eth1", f"172.31.8.208 → {INTERNET}", kind="out")]),
]  # fmt: skip

# --------------------------------------------------------------------------- 3 nonexistent-address

NOBODY, REAL = "192.168.100.3", "192.168.200.3"
_SERVICES = {"ssh": ("tcp", 22), "http": ("tcp", 80), "https": ("tcp", 443), "dns": ("udp", 53), "mysql": ("tcp", 3306),
             "ftp control": ("tcp", 21), "oracle listener": ("tcp", 1521)}  # fmt: skip


def _service(name: str) -> object:
    proto, port = _SERVICES[name]
    return (connect if proto == "tcp" else udp)("vm01", NOBODY, port)


NONEXISTENT = [
    Case("nobody answers for the address: vm01 itself reports host unreachable", "nonexistent-address.nothing",
         [ping("vm01", NOBODY)], [
             never_sees("vm01:eth0", f"192.168.100.1 → {NOBODY}"), never_sees("vm02"), told("vm01", (3, 1), "192.168.100.1"),
             blames("neighbour_failed")]),
    Case("vm02 sends a redirect to the address itself, then host unreachable", "nonexistent-address.route",
         [ping("vm01", NOBODY)], [
             sees("vm02:eth0", f"192.168.100.1 → {NOBODY}", kind="in"), told("vm01", (5, 1), "192.168.100.2", gateway=NOBODY),
             told("vm01", (3, 1), "192.168.100.2"), never_sees("vm02:eth0", f"192.168.100.1 → {NOBODY}", kind="out"),
             blames("neighbour_failed")]),
    Case("the request reaches vm03 under vm01's address, and its answer goes to the wrong gateway", "nonexistent-address",
         [ping("vm01", NOBODY)], [
             sees("vm02:eth0", f"192.168.100.1 → {NOBODY}", kind="in", ttl=64), sees("vm02:eth1", f"192.168.100.1 → {REAL}", kind="out", ttl=63),
             sees("vm03:eth0", f"192.168.100.1 → {REAL}", kind="in"), sees("gw200:eth0", f"{REAL} → 192.168.100.1", kind="in"),
             sees("gw200:wan", f"{REAL} → 192.168.100.1", kind="out"), never_sees("vm02", f"{REAL} → 192.168.100.1"),
             unanswered("vm01"), counted("vm02", nat_PREROUTING_1=1),
             tracks("vm02", f"192.168.100.1 → {NOBODY} | {REAL} → 192.168.100.1")]),
    *(Case(f"{name} reaches vm03 and gets no answer", "nonexistent-address", [_service(name)],
           [sees("vm03:eth0", f"192.168.100.1 → {REAL}", kind="in", dport=_SERVICES[name][1]), unanswered("vm01")])
      for name in _SERVICES),
    Case("a route back on vm03 would do instead of translating the source", "nonexistent-address",
         [types("vm03", "ip route add 192.168.100.0/24 via 192.168.200.2 dev eth0"), ping("vm01", NOBODY)],
         [sees("vm03:eth0", f"192.168.100.1 → {REAL}", kind="in"), answered("vm01", NOBODY, ttl=63)]),
    Case("with MASQUERADE vm03 sees vm02, and the answer comes from the address that does not exist", "nonexistent-address.masquerade",
         [ping("vm01", NOBODY)], [
             sees("vm02:eth0", f"192.168.100.1 → {NOBODY}", kind="in"), sees("vm02:eth1", f"192.168.200.2 → {REAL}", kind="out", icmp_id=4711),
             sees("vm03:eth0", f"192.168.200.2 → {REAL}", ttl=63), sees("vm02:eth1", f"{REAL} → 192.168.200.2", kind="in", ttl=64),
             sees("vm02:eth0", f"{NOBODY} → 192.168.100.1", kind="out", ttl=63), answered("vm01", NOBODY, ttl=63, icmp_id=4711),
             counted("vm02", nat_PREROUTING_1=1, nat_POSTROUTING_1=1),
             tracks("vm02", f"192.168.100.1 → {NOBODY} | {REAL} → 192.168.200.2")]),
    *(Case(f"{name} works", "nonexistent-address.masquerade", [_service(name)], [
        sees("vm03:eth0", f"192.168.200.2 → {REAL}", kind="in", dport=_SERVICES[name][1], sport=40000),
        answered("vm01", NOBODY, sport=_SERVICES[name][1], dport=40000), counted("vm02", nat_PREROUTING_1=1, nat_POSTROUTING_1=1)])
      for name in _SERVICES),
    Case("a closed port is refused in the name of the address that does not exist", "nonexistent-address.masquerade",
         [connect("vm01", NOBODY, 8080)], [answered("vm01", NOBODY, flags="RA", ttl=63)]),
    Case("a closed datagram port is reported in its name", "nonexistent-address.masquerade",
         [udp("vm01", NOBODY, 8080)], [told("vm01", (3, 3), NOBODY)]),
]  # fmt: skip


def _redirects(everywhere: int, eth0: int) -> Case:
    """vm02 is asked to forward to a network that its own gateway on the same segment leads to."""
    sent = everywhere or eth0
    told_so = told("vm01", (5, 1), "192.168.100.2", gateway="192.168.100.254")
    return Case(
        f"send_redirects={everywhere} for all and {eth0} for eth0: a redirect is {'' if sent else 'not '}sent",
        "nonexistent-address.nothing",
        [
            types("vm01", "ip route add 203.0.113.0/24 via 192.168.100.2 dev eth0"),
            types("vm02", f"sysctl -w net.ipv4.conf.all.send_redirects={everywhere}"),
            types("vm02", f"sysctl -w net.ipv4.conf.eth0.send_redirects={eth0}"),
            ping("vm01", "203.0.113.9"),
        ],
        [
            sees("gw100:wan", "192.168.100.1 → 203.0.113.9", kind="out"),
            told_so if sent else never_sees("vm01", "192.168.100.2 → 192.168.100.1"),
        ],
    )


NONEXISTENT += [_redirects(everywhere, eth0) for everywhere in (0, 1) for eth0 in (0, 1)]

# --------------------------------------------------------------------- 4 twice-through-conntrack

CLIENT, UPLINK = "10.10.1.1", "172.16.202.30"
_PLAIN = f"{CLIENT} → {OUTSIDE} | {OUTSIDE} → {CLIENT}"
_TRANSLATED = f"{CLIENT} → {OUTSIDE} | {OUTSIDE} → {UPLINK}"
_ONCE = [
    sees("host:client-veth0", f"{CLIENT} → {OUTSIDE}", kind="in", ttl=64), sees("host:proxy-veth0", f"{CLIENT} → {OUTSIDE}", kind="out", ttl=63),
    sees("proxy:veth0", f"{CLIENT} → {OUTSIDE}", times=2), sees("host:proxy-veth0", f"{CLIENT} → {OUTSIDE}", kind="in", ttl=62),
]  # fmt: skip
_HOME = [
    sees("host:enp4s0", f"{OUTSIDE} → {UPLINK}", kind="in", ttl=64), sees("host:proxy-veth0", f"{OUTSIDE} → {CLIENT}", times=2),
    sees("proxy:veth0", f"{OUTSIDE} → {CLIENT}", times=2), sees("host:client-veth0", f"{OUTSIDE} → {CLIENT}", kind="out", ttl=61),
    answered("client", OUTSIDE, ttl=61),
]  # fmt: skip

_FLOWS = {
    "a ping": ping("client", OUTSIDE),
    "a datagram": udp("client", OUTSIDE, 53),
    "a connection": connect("client", OUTSIDE, 443),
}

_COUNTING = [
    types("host", f"iptables -t {table} -A {chain} -s 10.10.1.0/24")
    for table, chains in (("raw", "PREROUTING"), ("mangle", "PREROUTING FORWARD POSTROUTING"), ("nat", "PREROUTING POSTROUTING"), ("filter", "FORWARD"))
    for chain in chains.split()
]  # fmt: skip
_THIRD_RULE_GONE = "ip rule del to 10.10.1.0/24 iif enp4s0 lookup 100 priority 102"

TWICE = [
    Case("every table counts both passes, and nat the first one only", "twice-through-conntrack", [*_COUNTING, ping("client", OUTSIDE)], [
        counted("host", raw_PREROUTING_1=2, mangle_PREROUTING_1=2, mangle_FORWARD_1=2, mangle_POSTROUTING_1=2, filter_FORWARD_1=2,
                nat_PREROUTING_1=1, nat_POSTROUTING_1=0, nat_POSTROUTING_2=1)]),
    Case("with a zone for each pass nat counts both", "twice-through-conntrack.zones", [*_COUNTING, ping("client", OUTSIDE)], [
        counted("host", nat_PREROUTING_1=2, nat_POSTROUTING_1=1, nat_POSTROUTING_2=1)]),
    *(Case(f"{name} leaves enp4s0 with the client's address, and MASQUERADE counts nothing", "twice-through-conntrack", [packet], [
        *_ONCE, sees("host:enp4s0", f"{CLIENT} → {OUTSIDE}", kind="out", ttl=61), counted("host", nat_POSTROUTING_1=0),
        tracks("host", _PLAIN), notes("host", "nat", "not consulted", hop=3)])
      for name, packet in _FLOWS.items()),
    *(Case(f"with a zone for each pass {name} leaves as the uplink's address and its answer comes all the way", "twice-through-conntrack.zones",
           [packet], [
               *_ONCE, sees("host:enp4s0", f"{UPLINK} → {OUTSIDE}", kind="out", ttl=61), *_HOME, counted("host", nat_POSTROUTING_1=1),
               counted("host", raw_PREROUTING_1=1, raw_PREROUTING_2=1), tracks("host", _PLAIN, _TRANSLATED, zones=[(1, 1), (0, 0)])])
      for name, packet in _FLOWS.items()),
    Case("with a zone for each pass the ICMP id is kept", "twice-through-conntrack.zones", [ping("client", OUTSIDE)],
         [sees("host:enp4s0", f"{UPLINK} → {OUTSIDE}", kind="out", icmp_id=4711), answered("client", OUTSIDE, icmp_id=4711)]),
    *(Case(f"one rule with --zone-orig cures {name} too", "twice-through-conntrack.zone-orig", [packet], [
        *_ONCE, sees("host:enp4s0", f"{UPLINK} → {OUTSIDE}", kind="out"), *_HOME, counted("host", nat_POSTROUTING_1=1, raw_PREROUTING_1=1),
        tracks("host", _PLAIN, _TRANSLATED, zones=[(0, 0), (2, 0)])])
      for name, packet in _FLOWS.items()),
    Case("--zone-orig costs the ICMP id: the first pass expects the same answer already, so the first free id is taken",
         "twice-through-conntrack.zone-orig", [ping("client", OUTSIDE)], [
             sees("host:enp4s0", f"{UPLINK} → {OUTSIDE}", kind="out", icmp_id=0), answered("client", OUTSIDE, icmp_id=4711)]),
    *(Case(f"--zone-orig keeps the port of {name}", "twice-through-conntrack.zone-orig", [packet],
           [sees("host:enp4s0", f"{UPLINK} → {OUTSIDE}", kind="out", sport=40000)])
      for name, packet in _FLOWS.items() if name != "a ping"),
    *(Case(f"--zone on the proxy's side alone translates {name} and loses the answer", "twice-through-conntrack.zone-on-proxy-only", [packet], [
        *_ONCE, sees("host:enp4s0", f"{UPLINK} → {OUTSIDE}", kind="out"), never_sees("host", f"{OUTSIDE} → {CLIENT}"),
        unanswered("client"), counted("host", nat_POSTROUTING_1=1)])
      for name, packet in _FLOWS.items()),
    *(Case(f"--zone-reply alone changes nothing for {name}: the second pass still finds the first one's entry",
           "twice-through-conntrack.zone-reply", [packet], [
               *_ONCE, sees("host:enp4s0", f"{CLIENT} → {OUTSIDE}", kind="out"), counted("host", nat_POSTROUTING_1=0, raw_PREROUTING_1=1)])
      for name, packet in _FLOWS.items()),
    *(Case(f"not tracking the first pass translates {name}", "twice-through-conntrack.notrack", [packet], [
        *_ONCE[:2], *_ONCE[3:], sees("host:enp4s0", f"{UPLINK} → {OUTSIDE}", kind="out"), counted("host", nat_POSTROUTING_1=1)])
      for name, packet in _FLOWS.items()),
    Case("not tracking the first pass spoils the answer: its own second pass is a new connection, whose port is drawn", "twice-through-conntrack.notrack",
         [_FLOWS["a datagram"]], [
             sees("host:enp4s0", f"{OUTSIDE} → {UPLINK}", kind="in", sport=53), sees("host:proxy-veth0", f"{OUTSIDE} → {CLIENT}", sport=53),
             sees("host:client-veth0", f"{OUTSIDE} → {CLIENT}", kind="out", sport=Drawn(53)),
             sees("host:client-veth0", f"{CLIENT} → {OUTSIDE}", kind="in", type=3, code=3)]),
    Case("the prefix of the text, 10.10.10.1/32, is nobody's: its rule cannot match even with zones", "twice-through-conntrack.wrong-prefix",
         [types("host", "iptables -t raw -A PREROUTING -i client-veth0 -j CT --zone 1"),
          types("host", "iptables -t raw -A PREROUTING -i proxy-veth0 -d 10.10.1.0/24 -j CT --zone 1"), ping("client", OUTSIDE)],
         [sees("host:enp4s0", f"{CLIENT} → {OUTSIDE}", kind="out"), counted("host", nat_POSTROUTING_1=0)]),
    Case("without the third ip rule the answer skips the proxy", "twice-through-conntrack.zones",
         [types("host", _THIRD_RULE_GONE), ping("client", OUTSIDE)],
         [never_sees("proxy", f"{OUTSIDE} → {CLIENT}"), sees("host:client-veth0", f"{OUTSIDE} → {CLIENT}", kind="out", ttl=63),
          answered("client", OUTSIDE, ttl=63)]),
    *(Case(f"rp_filter={value} on {dev} of {host} is no obstacle: the rules lead each way back where it came from", "twice-through-conntrack.zones",
           [types(host, f"sysctl -w net.ipv4.conf.{dev}.rp_filter={value}"), ping("client", OUTSIDE)], [answered("client", OUTSIDE)])
      for host, devices in (("host", ("proxy-veth0", "client-veth0", "enp4s0", "all")), ("proxy", ("veth0", "all")), ("client", ("veth0",)))
      for dev in devices for value in (1, 2)),
    *(Case(f"without the third ip rule rp_filter={value} on proxy-veth0 {effect} the second pass", "twice-through-conntrack.zones",
           [types("host", _THIRD_RULE_GONE), types("host", f"sysctl -w net.ipv4.conf.proxy-veth0.rp_filter={value}"), ping("client", OUTSIDE)], shows)
      for value, effect, shows in (
          (0, "allows", [answered("client", OUTSIDE)]),
          (1, "drops", [sees("host:proxy-veth0", f"{CLIENT} → {OUTSIDE}", kind="in"), never_sees("host:enp4s0"), blames("rp_filter")]),
          (2, "allows", [answered("client", OUTSIDE)]))),
]  # fmt: skip

# ------------------------------------------------------------------------------ 5 private-namespace

DNS114, SOURCE = "114.114.114.114", "192.168.38.116"
_BOTH_WAYS = [
    sees("private:veth1", f"1.1.1.2 → {DNS114}", kind="out", ttl=64), sees("host:veth0", f"1.1.1.2 → {DNS114}", kind="in", ttl=64),
    sees("host:eth0", f"{SOURCE} → {DNS114}", kind="out", ttl=63), sees("host:eth0", f"{DNS114} → {SOURCE}", kind="in", ttl=64),
    sees("host:veth0", f"{DNS114} → 1.1.1.2", kind="out", ttl=63), sees("private:veth1", f"{DNS114} → 1.1.1.2", kind="in", ttl=63),
    never_sees("host:veth0", f"{SOURCE} → {DNS114}"), never_sees("host:eth0", f"1.1.1.2 → {DNS114}"),
    counted("host", nat_POSTROUTING_1=1), tracks("host", f"1.1.1.2 → {DNS114} | {DNS114} → {SOURCE}"),
]  # fmt: skip
_EVERY_TABLE = [
    types("host", f"iptables -t {table} -A {chain}")
    for table, chains in (
        ("raw", "PREROUTING"),
        ("mangle", "PREROUTING FORWARD POSTROUTING"),
        ("nat", "PREROUTING"),
        ("filter", "FORWARD"),
    )
    for chain in chains.split()
]
_ORDER = ["raw PREROUTING", "conntrack PREROUTING", "mangle PREROUTING", "nat PREROUTING", "routing", "mangle FORWARD",
          "filter FORWARD", "mangle POSTROUTING", "nat POSTROUTING", "confirm POSTROUTING"]  # fmt: skip

PRIVATE = [
    *(Case(f"without a default route {name} is never made", "private-namespace.no-route", [packet],
           [fails_with(ENETUNREACH), never_sees("private"), never_sees("host"), blames("no_route")])
      for name, packet in (("a ping", ping("private", DNS114)), ("a datagram", udp("private", DNS114, 53)),
                           ("a connection", connect("private", DNS114, 443)))),
    *(Case(f"{name} reaches veth0 and goes no further, {rules}", stage, [packet], [
        sees("host:veth0", f"1.1.1.2 → {DNS114}", kind="in"), never_sees("host:eth0"), unanswered("private"), tracks("host"),
        counted("host", nat_POSTROUTING_1=0), blames("ip_forward_disabled", "host/sysctl.txt")])
      for stage, rules in (("private-namespace.route", "without rules"), ("private-namespace", "with SNAT"))
      for name, packet in (("a ping", ping("private", DNS114)), ("a datagram", udp("private", DNS114, 53)),
                           ("a connection", connect("private", DNS114, 443)))),
    *(Case(f"with ip_forward=1 {name} works, {how}: rewritten at eth0 only", stage, [packet], [*_BOTH_WAYS, answered("private", DNS114, ttl=63)])
      for stage, how in (("private-namespace.forwarding", "SNAT"), ("private-namespace.masquerade", "MASQUERADE"))
      for name, packet in (("a ping", ping("private", DNS114)), ("a datagram", udp("private", DNS114, 53)),
                           ("a connection", connect("private", DNS114, 443)))),
    Case("per-device forwarding is enough, for the device it comes in by", "private-namespace",
         [types("host", "sysctl -w net.ipv4.conf.veth0.forwarding=1"), ping("private", DNS114)],
         [sees("host:eth0", f"{SOURCE} → {DNS114}", kind="out"), never_sees("host:veth0", f"{DNS114} → 1.1.1.2"), unanswered("private"),
          blames("ip_forward_disabled", reply=True)]),
    Case("every table is passed in this order", "private-namespace.forwarding", [*_EVERY_TABLE, ping("private", DNS114)], [
        passes("host", *_ORDER), answered("private", DNS114),
        counted("host", raw_PREROUTING_1=2, mangle_PREROUTING_1=2, nat_PREROUTING_1=1, mangle_FORWARD_1=2, filter_FORWARD_1=2,
                mangle_POSTROUTING_1=2, nat_POSTROUTING_1=1)]),
    Case("with ip_forward=0 only the tables of PREROUTING are passed", "private-namespace", [*_EVERY_TABLE, ping("private", DNS114)], [
        passes("host", *_ORDER[:5]),
        counted("host", raw_PREROUTING_1=1, mangle_PREROUTING_1=1, nat_PREROUTING_1=1, mangle_FORWARD_1=0, filter_FORWARD_1=0,
                mangle_POSTROUTING_1=0, nat_POSTROUTING_1=0)]),
    *(Case(f"1450 bytes with DF, {what}: fragmentation needed, mtu 1400, reported by veth0", "private-namespace.forwarding", [packet], [
        sees("host:veth0", f"1.1.1.2 → {DNS114}", kind="in", len=1450), never_sees("host:eth0"),
        told("private", (3, 4), "1.1.1.3", mtu=1400), blames("fragmentation_needed")])
      for what, packet in (("ping", ping("private", DNS114, len=1450, df=True)), ("datagram", udp("private", DNS114, 53, len=1450, df=True)))),
    Case("1450 bytes without DF leave in two fragments", "private-namespace.forwarding", [ping("private", DNS114, len=1450)], [
        sees("host:eth0", f"{SOURCE} → {DNS114}", kind="out")]),
    Case("1400 bytes with DF pass", "private-namespace.forwarding", [ping("private", DNS114, len=1400, df=True)],
         [sees("host:eth0", f"{SOURCE} → {DNS114}", kind="out", len=1400), answered("private", DNS114)]),
    Case("a SYN offers 1460 although the uplink carries 1360", "private-namespace.forwarding", [connect("private", DNS114, 443, mss=1460)],
         [sees("host:eth0", f"{SOURCE} → {DNS114}", kind="out", mss=1460)]),
    Case("clamping the MSS to the path's mtu in mangle FORWARD mends that", "private-namespace.forwarding",
         [types("host", "iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"),
          connect("private", DNS114, 443, mss=1460)],
         [sees("host:eth0", f"{SOURCE} → {DNS114}", kind="out", mss=1360), sees("host:veth0", f"1.1.1.2 → {DNS114}", mss=1460)]),
    Case("an own ping of the host needs no forwarding and is not SNAT's business", "private-namespace", [ping("host", DNS114)],
         [sees("host:eth0", f"{SOURCE} → {DNS114}", kind="out", ttl=64), answered("host", DNS114), counted("host", nat_POSTROUTING_1=0)]),
    Case("private and host reach each other without any of this", "private-namespace", [ping("private", "1.1.1.3")],
         [answered("private", "1.1.1.3", ttl=64)]),
]  # fmt: skip

CASES = [*PER_USER, *TWO_UPLINKS, *NONEXISTENT, *TWICE, *PRIVATE]
__all__ = ["CASES", "Pause"]
