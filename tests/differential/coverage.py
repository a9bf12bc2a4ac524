"""What the situations touched: every match, target, hook, selector, route type and sysctl, how often hit and missed.

Rules of iptables are judged by the kernel's own counters. Policy rules and routes have none: what the simulator looked up
counts, for packets where the kernel agreed with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

ENOUGH = 50
MATCHES = [
    "tcp",
    "udp",
    "sctp",
    "dccp",
    "icmp",
    "multiport",
    "conntrack",
    "state",
    "mark",
    "connmark",
    "connbytes",
    "connlimit",
    "connlabel",
    "owner",
    "addrtype",
    "set",
    "mac",
    "limit",
    "hashlimit",
    "recent",
    "statistic",
    "comment",
    "iprange",
    "string",
    "length",
    "ttl",
    "tos",
    "dscp",
    "ecn",
    "u32",
    "bpf",
    "rpfilter",
    "physdev",
    "tcpmss",
    "time",
    "pkttype",
    "devgroup",
    "helper",
    "quota",
    "realm",
    "esp",
    "ah",
    "policy",
    "cluster",
    "cpu",
    "nfacct",
    "socket",
    "-s",
    "-d",
    "-i",
    "-o",
]
TARGETS = [
    "ACCEPT",
    "DROP",
    "RETURN",
    "REJECT",
    "LOG",
    "NFLOG",
    "NFQUEUE",
    "MARK",
    "CONNMARK",
    "CT",
    "NOTRACK",
    "DNAT",
    "SNAT",
    "MASQUERADE",
    "REDIRECT",
    "NETMAP",
    "TPROXY",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TTL",
    "TOS",
    "DSCP",
    "ECN",
    "CLASSIFY",
    "TEE",
    "TRACE",
    "SET",
    "CHECKSUM",
    "AUDIT",
    "CONNSECMARK",
    "SYNPROXY",
    "HMARK",
    "RATEEST",
    "IDLETIMER",
]
PARTS = [
    *(f"REJECT {k}" for k in ("icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable",
                              "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited", "tcp-reset")),
    *(f"CT {o}" for o in ("--zone", "--zone-orig", "--zone-reply", "--notrack", "--helper", "--timeout", "--ctevents")),
    "NFQUEUE --queue-bypass", "MASQUERADE --random", "SNAT --random", "DNAT --persistent", "user chain", "user chain (goto)",
]  # fmt: skip
PROTOCOLS = ["tcp", "udp", "udplite", "sctp", "dccp", "icmp", "esp", "ah"]
SETS = [
    "hash:ip",
    "hash:net",
    "hash:ip,port",
    "hash:net,port",
    "bitmap:port",
    "list:set",
    "bitmap:ip",
    "hash:ip,port,ip",
    "hash:ip,port,net",
    "hash:net,iface",
]
CHAINS = {
    "raw": "PREROUTING OUTPUT", "mangle": "PREROUTING INPUT FORWARD OUTPUT POSTROUTING", "nat": "PREROUTING INPUT OUTPUT POSTROUTING",
    "filter": "INPUT FORWARD OUTPUT", "security": "INPUT FORWARD OUTPUT",
}  # fmt: skip
SELECTORS = [
    "from",
    "to",
    "iif",
    "oif",
    "fwmark",
    "uidrange",
    "ipproto",
    "sport",
    "dport",
    "tos",
    "not",
    "suppress_prefixlength",
    "suppress_ifgroup",
]
ACTIONS = ["lookup", "goto", "nop", "unreachable", "prohibit", "blackhole"]
ROUTES = [
    "unicast",
    "local",
    "broadcast",
    "multicast",
    "unreachable",
    "prohibit",
    "blackhole",
    "throw",
    "gateway",
    "on-link",
    "metric",
    "tos",
    "src",
    "mtu",
    "realm",
    "advmss",
    "multipath",
    "nexthop-object",
    "nexthop-group",
]
SYSCTLS = [
    "rp_filter=1",
    "rp_filter=2",
    "forwarding=0",
    "accept_local=1",
    "route_localnet=1",
    "src_valid_mark=1",
    "arp_ignore=1",
    "arp_filter=1",
    "arp_announce=2",
    "proxy_arp=1",
    "ip_forward=0",
    "nf_conntrack_tcp_loose=0",
    "nf_conntrack_tcp_be_liberal=1",
    "nf_conntrack_acct=1",
    "fwmark_reflect=1",
    "icmp_errors_use_inbound_ifaddr=1",
    "ip_forward_update_priority=0",
    "ip_forward_use_pmtu=1",
]
HITS_ONLY = ("target", "rule action", "route", "reason", "backend", "neighbour")  # what is no test has no misses
ALWAYS_TRUE = ("match nfacct",)


def required() -> list[str]:
    """Every name that has to be covered, whether the generator wrote it or not."""
    out = (
        [f"match {m}" for m in MATCHES]
        + [f"target {t}" for t in (*TARGETS, *PARTS)]
        + [f"proto {p}" for p in PROTOCOLS]
    )
    out += [f"set {kind}" for kind in SETS] + [f"chain {t}:{c}" for t, chains in CHAINS.items() for c in chains.split()]
    out += (
        [f"chain {t}:user" for t in CHAINS] + [f"rule {s}" for s in SELECTORS] + [f"rule action {a}" for a in ACTIONS]
    )
    out += [f"route {r}" for r in ROUTES] + [f"sysctl {s}" for s in SYSCTLS]
    return [*out, "backend nft", "backend legacy", "backend both", "neighbour failed", "neighbour permanent"]


def enough(name: str, touched: Counter[str]) -> bool:
    """Whether a name was hit and, if it can be, missed often enough."""
    hits, misses = touched[f"{name}|hit"], touched[f"{name}|miss"]
    return hits >= ENOUGH and (misses >= ENOUGH or name.startswith(HITS_ONLY))


def table(touched: Counter[str]) -> str:
    """Hits and misses of everything, as text; the last line names what is below."""
    names = sorted({*required(), *(key.rpartition("|")[0] for key in touched)})
    lines = [f"{'':40}{'hits':>8}{'misses':>8}"]
    for name in names:
        marks = "" if enough(name, touched) else "   few" if name in required() else "   (few)"
        lines.append(f"{name:40}{touched[f'{name}|hit']:8}{touched[f'{name}|miss']:8}{marks}")
    below = [n for n in required() if not enough(n, touched)]
    return "\n".join(lines) + f"\nbelow {ENOUGH}: {len(below)} of {len(required())} names: {', '.join(below) or 'none'}"


# ----------------------------------------------------------------------------------------------- rules


def rules(touched: Counter[str], host: dict[str, Any], counters: dict[Any, Any], previous: dict[Any, Any]) -> None:
    """A rule is hit when its counter moved; missed when a later rule or the policy of its chain moved."""
    texts = rule_texts(host)
    kinds = {w[1]: w[2] for w in (line.split() for line in host.get("ipset", ())) if w[0] == "create"}
    moved = {k for k, v in counters.items() if v != previous.get(k, (0, 0))}
    deepest: dict[Any, int] = {}
    for backend, table_, chain, number in moved:
        place = 10**6 if number == 0 else number
        deepest[backend, table_, chain] = max(deepest.get((backend, table_, chain), 0), place)
    for key in counters:
        backend, table_, chain, number = key
        hit = key in moved
        if not number or (not hit and deepest.get((backend, table_, chain), 0) < number):
            continue
        how = "hit" if hit else "miss"
        for name in names_of(texts.get(key, ""), kinds):
            touched[f"{name}|{how}"] += 1
        user = chain[:1] == "U" and chain[1:].isdigit()
        touched[f"chain {table_}:{'user' if user else chain}|{how}"] += 1
        touched[f"backend {backend}|{how}"] += 1
        if host.get("iptables") and host.get("iptables-legacy"):
            touched[f"backend both|{how}"] += 1


def rule_texts(host: dict[str, Any]) -> dict[tuple[str, str, str, int], str]:
    """(backend, table, chain, number) → the rule as it was written."""
    out = {}
    numbers: Counter[Any] = Counter()
    for key, backend in (("iptables", "nft"), ("iptables-legacy", "legacy")):
        for line in host.get(key, ()):
            words = line.split()
            if "-A" not in words:
                continue
            place = (backend, words[words.index("-t") + 1], words[words.index("-A") + 1])
            numbers[place] += 1
            out[*place, numbers[place]] = line
    return out


_IMPLICIT = {
    "tcp": ("--dport", "--sport", "--syn", "--tcp-flags", "--tcp-option"),
    "udp": ("--dport", "--sport"),
    "icmp": ("--icmp-type",),
}


def names_of(text: str, kinds: dict[str, str]) -> list[str]:
    """Matches, targets and their kinds in a rule; ``kinds``: of the sets."""
    words = text.split()
    out = set()
    for word, following in pairwise(words):
        if word == "-m":
            out.add(f"match {following}")
        elif word == "-p":
            out.add(f"proto {following}")
            if any(option in words for option in _IMPLICIT.get(following, ())):
                out.add(f"match {following}")
        elif word in ("-s", "-d", "-i", "-o"):
            out.add(f"match {word}")
        elif word == "--match-set":
            out.add(f"set {kinds.get(following, '?')}")
        elif word in ("-j", "-g"):
            name = "user chain" if following[:1] == "U" and following[1:].isdigit() else following
            out.add(f"target {name}{' (goto)' if word == '-g' else ''}")
            out.update(f"target {part}" for part in PARTS if part.split()[0] == name and part.split()[-1] in words)
    if "REJECT" in words and "--reject-with" not in words:
        out.add("target REJECT icmp-port-unreachable")
    return sorted(out)


# --------------------------------------------------------------------------------------------- routing


class Lookups:
    """What the simulator asked its routing tables for one packet."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def rule(self, rule: Any, hit: bool) -> None:
        """A policy rule was compared with a packet."""
        if rule.priority in (0, 32766, 32767):
            return
        how = "hit" if hit else "miss"
        names = {
            "from": rule.src, "to": rule.dst, "iif": rule.iif, "oif": rule.oif, "fwmark": rule.fwmark is not None, "uidrange": rule.uid_range,
            "ipproto": rule.ipproto, "sport": rule.sport, "dport": rule.dport, "tos": rule.tos, "not": rule.invert,
            "suppress_prefixlength": rule.suppress_prefixlen is not None, "suppress_ifgroup": rule.suppress_ifgroup is not None,
        }  # fmt: skip
        self.found.update(f"rule {name}|{how}" for name, there in names.items() if there)
        self.found.add(f"rule action {'lookup' if rule.action == 'table' else rule.action}|{how}")

    def suppressed(self, rule: Any, hit: bool) -> None:
        """A suppressor is hit where it hides a route."""
        for name, there in (
            ("suppress_prefixlength", rule.suppress_prefixlen),
            ("suppress_ifgroup", rule.suppress_ifgroup),
        ):
            if there is not None:
                self.found.discard(f"rule {name}|hit")
                self.found.add(f"rule {name}|{'hit' if hit else 'miss'}")

    def route(self, route: Any) -> None:
        """A route was the answer."""
        group = route.nhid is not None and len(route.nexthops) != 1
        names = {
            route.type: True, "metric": route.metric, "tos": route.tos, "src": route.prefsrc and route.protocol != "kernel", "mtu": route.mtu,
            "realm": route.realm, "advmss": route.advmss, "multipath": len(route.nexthops) > 1,
            "nexthop-object": route.nhid is not None, "nexthop-group": group, "gateway": any(n.via for n in route.nexthops),
            "on-link": route.nexthops and not any(n.via for n in route.nexthops) and route.type == "unicast",
        }  # fmt: skip
        self.found.update(f"route {name}|hit" for name, there in names.items() if there)


@contextmanager
def watching() -> Iterator[Lookups]:
    """While a packet is simulated: note the rules and routes that are looked at."""
    from nattrace.sim.engine import fib_rules

    seen = Lookups()
    matches, lookup, suppressed = fib_rules.rule_matches, fib_rules.table_lookup, fib_rules._suppressed

    def watched_matches(ctx: Any, rule: Any, flow: Any) -> bool:
        hit = matches(ctx, rule, flow)
        seen.rule(rule, hit)
        return hit

    def watched_lookup(ctx: Any, index: Any, flow: Any, *more: Any) -> Any:
        found = lookup(ctx, index, flow, *more)
        if found is not None and found.route is not None:
            seen.route(found.route)
        elif found is None and index is not None:
            first = next(index.matching(flow.dst), None)
            if first is not None and first.type == "throw":
                seen.found.add("route throw|hit")
        return found

    def watched_suppressed(ctx: Any, rule: Any, hit: Any) -> bool:
        hidden = suppressed(ctx, rule, hit)
        seen.suppressed(rule, hidden)
        return hidden

    fib_rules.rule_matches, fib_rules.table_lookup, fib_rules._suppressed = (
        watched_matches,
        watched_lookup,
        watched_suppressed,
    )
    try:
        yield seen
    finally:
        fib_rules.rule_matches, fib_rules.table_lookup, fib_rules._suppressed = matches, lookup, suppressed


# --------------------------------------------------------------------------------------------- the rest


def passage(touched: Counter[str], result: dict[str, Any], hosts: dict[str, Any]) -> None:
    """Sysctls of the hosts and devices that a packet passed; the reason of its end; neighbours."""
    passed = {(hop["host"], dev) for hop in result.get("hops", ()) for dev in (hop["in"], hop["out"])}
    for wanted in SYSCTLS:
        name, _, value = wanted.partition("=")
        here = [_setting(hosts[h]["sysctl"], name, dev) for h, dev in passed]
        touched[f"sysctl {wanted}|{'hit' if value in here else 'miss'}"] += 1
    code = (result.get("reason") or {}).get("code", "")
    touched[f"reason {code}|hit"] += 1
    notes = [
        step["text"] or "" for hop in result.get("hops", ()) for step in hop["steps"] if step["stage"] == "neighbour"
    ]
    permanent = {line.split()[0] for host in hosts.values() for line in host.get("neighbours", ())}
    touched["neighbour permanent|hit"] += any(n.split()[:1] and n.split()[0] in permanent for n in notes)
    touched["neighbour failed|hit"] += code == "neighbour_failed"


def _setting(sysctl: dict[str, Any], name: str, dev: str | None) -> str:
    for key in (
        f"net.ipv4.conf.{dev}.{name}",
        f"net.ipv4.conf.all.{name}",
        f"net.ipv4.{name}",
        f"net.netfilter.{name}",
    ):
        if key in sysctl:
            return str(sysctl[key])
    return ""
