"""Names that belong to iptables itself: options before any extension, and the extensions that exist.

An extension listed here and not registered is "not modelled"; a typed name that is neither is a slip.
"""

from __future__ import annotations

from ..model.rule import HOOK_NUMBER

# iptables 1.8.9 and xtables-addons
_MATCHES = """
    account addrtype ah bpf cgroup cluster comment condition connbytes connlabel connlimit connmark conntrack cpu dccp
    devgroup dhcpmac dscp dst ecn esp eui64 frag fuzzy geoip gradm hashlimit hbh helper hl iface icmp icmp6 ipcomp
    iprange ipv4options ipv6header ipvs length length2 limit lscan mac mark mh multiport nfacct nth osf owner physdev
    pkttype policy psd quota quota2 random rateest realm recent rpfilter rt sctp set socket srh state statistic string
    tcp tcpmss time tos ttl u32 udp udplite unclean
"""
_TARGETS = """
    ACCEPT ACCOUNT AUDIT CHAOS CHECKSUM CLASSIFY CLUSTERIP CONNMARK CONNSECMARK CT DELUDE DHCPMAC DNAT DNETMAP DNPT DROP
    DSCP ECHO ECN HL HMARK IDLETIMER IPMARK LED LOG LOGMARK MARK MASQUERADE MIRROR NETMAP NFLOG NFQUEUE NOTRACK PROTO
    QUEUE RATEEST RAWDNAT RAWSNAT REDIRECT REJECT RETURN SAME SECMARK SET SNAT SNPT STEAL SYNPROXY SYSRQ TARPIT TCPMSS
    TCPOPTSTRIP TEE TOS TPROXY TRACE TTL ULOG
"""
MATCHES = frozenset(_MATCHES.split())
TARGETS = frozenset(_TARGETS.split())
MATCH_ALIAS = {"icmpv6": "icmp6", "ipv6-icmp": "icmp6"}  # xtables_find_match() in libxtables/xtables.c

# Tables and the built-in chains that each has.
BUILT_IN: dict[str, tuple[str, ...]] = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": tuple(HOOK_NUMBER),
    "raw": ("PREROUTING", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}

# Short options with a value, their long forms; getopt_long() accepts any unambiguous beginning of the latter.
LONG = {
    "--append": "-A", "--insert": "-I", "--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d",
    "--in-interface": "-i", "--out-interface": "-o", "--protocol": "-p", "--fragments": "-f", "--match": "-m",
    "--jump": "-j", "--goto": "-g", "--set-counters": "-c", "--table": "-t", "--wait": "-w", "--verbose": "-v",
    "--ipv4": "-4", "--ipv6": "-6",
}  # fmt: skip
SHORT = frozenset(LONG.values())
BASE_OPTIONS = SHORT | LONG.keys()
