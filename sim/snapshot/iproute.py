"""JSON dumps of iproute2: links, addresses, neighbours, routes, policy rules, nexthop objects.

Each reader takes the entries (dicts as ``ip -j`` prints them, with the line they stand on) and gives model objects.
The plain forms go through ``iproute_text``, which turns them into the same entries, so both forms mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..model.addr import AF_INET, AF_INET6, BITS, Prefix, parse_addr, parse_prefix
from ..model.route import RT_TABLE_MAIN, Address, FibRule, Link, Neighbour, Nexthop, Route
from ..model.where import Where
from ..model.world import NexthopObject
from ..record import NamedTuple
from .problems import Problems, excerpt
from .words import TableNames, dsfield, parse_mac, proto_number, realms, scope_number, unsigned

Entry = dict[str, Any]
T = TypeVar("T")


class Entries(NamedTuple):
    """The objects of one dump: (line or None, object). ``family``: of entries that don't say (default routes)."""

    file: str
    items: list[tuple[int | None, Entry]]
    family: int = AF_INET

    def read(self, what: str, problems: Problems, one: Callable[[Entry, Where], T | None]) -> Iterator[T]:
        """Each entry through ``one``; a bad entry becomes an error that says which one it is."""
        for position, (line, entry) in enumerate(self.items, 1):
            try:
                found = one(entry, Where(self.file, line))
            except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
                place = what if line is not None else f"{what} {position}"
                problems.error(f"{place}: {_explain(error)}", self.file, line)
                continue
            if found is not None:
                yield found


def _explain(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"lacks {excerpt(error.args[0])}"
    return str(error) if isinstance(error, ValueError) else f"unexpected value ({error})"


def number(entry: Entry, key: str, default: int | None = None, most: int = 0xFFFFFFFF) -> Any:
    value = entry.get(key)
    return default if value is None else unsigned(value, key, most)


def word(entry: Entry, key: str) -> str | None:
    value = entry.get(key)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{key}: expected a name, got {excerpt(value)}")


def name_of(entry: Entry, key: str) -> str:
    value = word(entry, key)
    if not value:
        raise ValueError(f"lacks {key}")
    return value


def words(entry: Entry, key: str) -> list[str]:
    value = entry.get(key) or []
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{key}: expected a list of words, got {excerpt(value)}")
    return value


# ── links ────────────────────────────────────────────────────────────────────────────────────────────────


def read_links(entries: Entries, problems: Problems) -> dict[str, Link]:
    """``ip -j -d link`` (or ``ip -j addr``, which tells almost the same) in kernel order."""
    links: dict[str, Link] = {}
    lower: dict[str, str] = {}
    for link, below in entries.read("link", problems, _link):
        links[link.name] = link
        if below is not None:
            lower[link.name] = below
    from ..record import replace

    for name, below in lower.items():
        if below in links:
            links[name] = replace(links[name], peer_ifindex=links[below].ifindex)
    return links


def _link(entry: Entry, where: Where) -> tuple[Link, str | None] | None:
    if "ifname" not in entry and "ifindex" not in entry:
        return None  # `ip -j addr` prints {} for what a filter left out
    flags = words(entry, "flags")
    told = "flags" in entry  # written by hand, an interface is there to be used
    up = "UP" in flags or not told
    info = entry.get("linkinfo") or {}
    group = entry.get("group", 0)
    xdp = entry.get("xdp") is not None or entry.get("prog") is not None
    address = word(entry, "address")
    link = Link(
        name=name_of(entry, "ifname"),
        ifindex=number(entry, "ifindex", 0, 0x7FFFFFFF),
        up=up,
        carrier="NO-CARRIER" not in flags or (up and "LOWER_UP" in flags),
        mtu=number(entry, "mtu", 1500),
        mac=_mac(address),
        loopback="LOOPBACK" in flags or (not told and entry.get("ifname") == "lo"),
        noarp="NOARP" in flags,
        pointopoint="POINTOPOINT" in flags,
        kind=word(info, "info_kind") or "",
        master=word(entry, "master"),
        group=0 if group == "default" else unsigned(group, "group", 0xFFFFFFFF),
        peer_ifindex=number(entry, "link_index", None, 0x7FFFFFFF),
        peer_netnsid=_netnsid(entry["link_netnsid"]) if "link_netnsid" in entry else None,
        altnames=tuple(words(entry, "altnames")),
        xdp=xdp,
        nf_call_iptables=bool(_detail(info, "info_data").get("nf_call_iptables")),
        hairpin=bool(_detail(info, "info_slave_data").get("hairpin")),
        where=where,
    )
    return link, word(entry, "link")


def _detail(info: Entry, key: str) -> Entry:
    """What a kind of device says of itself, or of its ports; nothing where it is no object."""
    value = info.get(key)
    return value if isinstance(value, dict) else {}


def _netnsid(value: Any) -> int:
    """The number the kernel calls another namespace by; -1 where the dump shows a name or nothing."""
    return value if type(value) is int and -2 < value < 1 << 31 else -1


def _mac(text: str | None) -> int | None:
    """48-bit addresses only: tunnels show an IP address there, infiniband 20 bytes."""
    return parse_mac(text) if text is not None and text.count(":") == 5 and len(text) == 17 else None


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────


class Addresses(NamedTuple):
    """``plain``: indexes of addresses whose prefix route the kernel was told not to make (noprefixroute)."""

    all: tuple[Address, ...]
    noprefixroute: frozenset[int]


def read_addresses(entries: Entries, problems: Problems) -> Addresses:
    """``ip -j -d addr``, in the kernel's order."""
    found: list[Address] = []
    plain: set[int] = set()

    def one(entry: Entry, where: Where) -> None:
        infos = entry.get("addr_info") or []
        if not isinstance(infos, list):
            raise ValueError(f"addr_info: expected a list, got {excerpt(infos)}")
        for info in infos:
            if isinstance(info, dict) and info.get("family") in ("inet", "inet6") and "local" in info:
                if info.get("noprefixroute"):
                    plain.add(len(found))
                found.append(_address(info, name_of(entry, "ifname"), where))

    for _ in entries.read("interface", problems, one):
        pass
    return Addresses(tuple(found), frozenset(plain))


def _address(info: Entry, dev: str, where: Where) -> Address:
    family, local = parse_addr(info["local"])
    line = info.get("line")
    far = info.get("address")
    flags = info.get("secondary"), info.get("temporary")
    return Address(
        family=family,
        dev=dev,
        local=local,
        plen=unsigned(info["prefixlen"], "prefixlen", BITS[family]),
        scope=scope_number(info.get("scope", "global")),
        broadcast=_same_family(info.get("broadcast"), family),
        peer=_same_family(far, family),
        secondary=bool(flags[0]) or (family == AF_INET6 and bool(flags[1])),
        deprecated=bool(info.get("deprecated")),
        tentative=bool(info.get("tentative")) or bool(info.get("dadfailed")),
        label=word(info, "label") or (dev if family == AF_INET else ""),
        where=where if line is None else Where(where.file, line),
    )


def _same_family(text: Any, family: int) -> int | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"expected an address, got {excerpt(text)}")
    found, value = parse_addr(text)
    if found != family:
        raise ValueError(f"{excerpt(text)} is of another address family")
    return value


# ── neighbours ───────────────────────────────────────────────────────────────────────────────────────────


def read_neighbours(entries: Entries, problems: Problems, proxy: bool = False) -> tuple[Neighbour, ...]:
    """``ip -j neigh`` (with ``show proxy``: addresses this host answers for)."""

    def one(entry: Entry, where: Where) -> Neighbour | None:
        if not entry:
            return None
        family, addr = parse_addr(name_of(entry, "dst"))
        states = words(entry, "state") or ["NONE"]
        is_proxy = proxy or "proxy" in entry
        mac = _mac(word(entry, "lladdr"))
        return Neighbour(family, name_of(entry, "dev"), addr, mac, "NONE" if is_proxy else states[0], is_proxy, where)

    return tuple(entries.read("neighbour", problems, one))


# ── routes ───────────────────────────────────────────────────────────────────────────────────────────────

LEGLESS = frozenset(("unreachable", "prohibit", "blackhole", "throw"))
TYPES = LEGLESS | {"unicast", "local", "broadcast", "multicast", "anycast", "nat"}


class RouteReader:
    """``ip -j -d route show table all``. ``odd``: what a route says that the model has no place for.

    ``lost``: (number, route, place) of nexthop objects that no dump describes.
    """

    def __init__(self, tables: TableNames, nexthops: dict[int, NexthopObject]) -> None:
        self.tables = tables
        self.nexthops = nexthops
        self.odd: list[tuple[str, Where]] = []
        self.lost: list[tuple[int, str, Where]] = []
        self._prefixes: dict[str, Prefix] = {}

    def read(self, entries: Entries, problems: Problems) -> dict[tuple[int, int], tuple[Route, ...]]:
        """Routes by (family, table) in dump order."""
        by_table: dict[tuple[int, int], list[Route]] = {}
        family = entries.family
        for route in entries.read("route", problems, lambda entry, where: self._route(entry, where, family)):
            by_table.setdefault((route.prefix.family, route.table), []).append(route)
        return {key: tuple(routes) for key, routes in by_table.items()}

    def _route(self, entry: Entry, where: Where, family: int) -> Route | None:
        if not entry:
            return None
        get = entry.get
        prefix = self._prefix(entry, family)
        kind = get("type", "unicast")
        if kind not in TYPES:
            raise ValueError(f"unknown route type {excerpt(kind)}")
        nhid = number(entry, "nhid")
        legs = () if kind in LEGLESS else self._legs(entry, prefix.family, nhid)
        table = get("table")
        metrics = get("metrics")
        src = get("prefsrc")
        flow = get("flow")
        target = self.nexthops.get(nhid) if nhid is not None else None
        if nhid is not None and target is None and not legs and kind not in LEGLESS:
            self.lost.append((nhid, _route_text(entry), where))
        route = Route(
            prefix=prefix,
            table=RT_TABLE_MAIN if table is None else self.tables.number(table),
            type=kind,
            nexthops=legs,
            metric=number(entry, "metric", 0),
            tos=0 if "tos" not in entry else dsfield(entry["tos"]),
            scope=scope_number(get("scope", "global")),  # left out of `ip route` where it is global
            prefsrc=None if src is None else _same_family(src, prefix.family),
            protocol=word(entry, "protocol") or "",
            mtu=None,
            nhid=nhid,
            resilient=target.resilient if target is not None else _is_resilient(get("nh_info")),
            realm=0 if flow is None else _flow_realm(flow),
            text=_route_text(entry),
            where=where,
        )
        if metrics:
            route = _with_metrics(route, metrics)
        for key in ("from", "encap"):
            if key in entry:
                self.odd.append((f"{key} of the route {route.text}", where))
        return route

    def _prefix(self, entry: Entry, family: int) -> Prefix:
        text = name_of(entry, "dst")
        if text == "default":
            family = _family_of_default(entry, family)
            return Prefix(family, 0, 0)
        found = self._prefixes.get(text)
        if found is None:
            found = self._prefixes[text] = parse_prefix(text)
        return found

    def _legs(self, entry: Entry, family: int, nhid: int | None) -> tuple[Nexthop, ...]:
        target = self.nexthops.get(nhid) if nhid is not None else None
        if target is not None and not target.blackhole:
            resolved = self._resolved(target)
            if resolved:
                return resolved
        listed = entry.get("nexthops")
        if listed:
            if not isinstance(listed, list) or not all(isinstance(leg, dict) for leg in listed):
                raise ValueError(f"nexthops: expected a list of objects, got {excerpt(listed)}")
            return tuple(_leg(leg, family) for leg in listed)
        if "dev" not in entry and "gateway" not in entry and "via" not in entry:
            return ()
        return (_leg(entry, family),)

    def _resolved(self, target: NexthopObject) -> tuple[Nexthop, ...]:
        """The legs of a nexthop object, each with the id of the object it comes from."""
        if target.nexthop is not None:
            return (target.nexthop,)
        from ..record import replace

        legs = []
        for member_id, weight in target.group:
            member = self.nexthops.get(member_id)
            if member is not None and member.nexthop is not None:
                legs.append(replace(member.nexthop, weight=weight))
        return tuple(legs)


def _family_of_default(entry: Entry, family: int) -> int:
    """``default`` names no family; a gateway (not ``via``, which may differ) or an IPv6 preference does."""
    gateway = entry.get("gateway")
    if isinstance(gateway, str):
        return AF_INET6 if ":" in gateway else AF_INET
    return AF_INET6 if "pref" in entry else family


def _leg(entry: Entry, family: int) -> Nexthop:
    gateway = entry.get("gateway")
    via = entry.get("via")
    if gateway is not None:
        via_family, address = parse_addr(gateway)
    elif via is not None:
        via_family, address = parse_addr(via["host"])
    else:
        via_family, address = family, None
    flags = entry.get("flags") or ()
    weight = number(entry, "weight", 1, 65536)
    dev = word(entry, "dev")
    if not flags:
        return Nexthop(dev, address, via_family, weight)
    flags = words(entry, "flags")
    return Nexthop(dev, address, via_family, weight, "onlink" in flags, "dead" in flags, "linkdown" in flags)


def _is_resilient(info: Any) -> bool:
    return isinstance(info, dict) and info.get("type") == "resilient"


def _flow_realm(flow: Any) -> int:
    if isinstance(flow, dict):
        head, tail = flow.get("from"), flow.get("to", 0)
        return realms(f"{head}/{tail}" if head is not None else tail)
    return realms(flow)


def _with_metrics(route: Route, metrics: Any) -> Route:
    """``[{"mtu": 1300, "advmss": 1200}]``; iproute2 before 6.3 leaves ``lock`` out of JSON."""
    from ..record import replace

    merged: dict[str, Any] = {}
    for part in metrics if isinstance(metrics, list) else [metrics]:
        merged.update(part)
    locked = merged.get("lock")
    mtu_locked = locked is not None and (not isinstance(locked, list) or "mtu" in locked)
    return replace(
        route,
        mtu=number(merged, "mtu"),
        mtu_locked=mtu_locked and "mtu" in merged,
        advmss=number(merged, "advmss"),
    )


def _route_text(entry: Entry) -> str:
    """As ``ip route`` prints it."""
    kind = entry.get("type", "unicast")
    parts = [entry["dst"]] if kind == "unicast" else [kind, entry["dst"]]
    for key, said in _ROUTE_WORDS:
        value = entry.get(key)
        if value is None:
            continue
        if key == "via":
            value = f"{value['family']} {value['host']}"
        elif key == "table" and value == "main":
            continue
        parts.append(f"{said} {value}")
    for leg in entry.get("nexthops") or ():
        parts.append("nexthop " + _route_text_leg(leg))
    return " ".join(parts)


def _route_text_leg(leg: Entry) -> str:
    return " ".join(f"{said} {leg[key]}" for key, said in _LEG_WORDS if leg.get(key) is not None)


_LEG_WORDS = (("gateway", "via"), ("dev", "dev"), ("weight", "weight"))
_ROUTE_WORDS = (
    ("tos", "tos"), ("nhid", "nhid"), ("gateway", "via"), ("via", "via"), ("dev", "dev"), ("table", "table"),
    ("protocol", "proto"), ("prefsrc", "src"), ("metric", "metric"),
)  # fmt: skip


# ── policy rules ─────────────────────────────────────────────────────────────────────────────────────────

ACTIONS = ("blackhole", "unreachable", "prohibit")
KNOWN_RULE_KEYS = frozenset((
    "priority", "not", "src", "srclen", "dst", "dstlen", "tos", "dscp", "fwmark", "fwmask", "iif", "iif_detached",
    "oif", "oif_detached", "l3mdev", "uid_start", "uid_end", "ipproto", "sport", "sport_start", "sport_end", "dport",
    "dport_start", "dport_end", "table", "suppress_prefixlen", "suppress_ifgroup", "flow_from", "flow_to", "goto",
    "unresolved", "nop", "action", "to_nat", "protocol", "tun_id", "type", "flags",
))  # fmt: skip


class RuleReader:
    """``ip -j rule``. ``odd``: selectors that the model has no place for."""

    def __init__(self, tables: TableNames) -> None:
        self.tables = tables
        self.odd: list[tuple[str, Where]] = []

    def read(self, entries: Entries, problems: Problems) -> tuple[FibRule, ...]:
        """Rules by priority (stable: equal ones keep the kernel's order)."""
        family = entries.family
        found = list(entries.read("rule", problems, lambda entry, where: self._rule(entry, where, family)))
        return tuple(sorted(found, key=lambda rule: rule.priority))

    def _rule(self, entry: Entry, where: Where, family: int) -> FibRule | None:
        if not entry:
            return None
        get = entry.get
        action, goto = "table", number(entry, "goto")
        if goto is not None:
            action = "goto"
        elif "nop" in entry:
            action = "nop"
        elif get("action") is not None:
            action = str(get("action"))
            if action not in ACTIONS:
                raise ValueError(f"unknown action {excerpt(action)}")
        group = get("suppress_ifgroup")
        table = get("table", get("lookup"))
        rule = FibRule(
            priority=number(entry, "priority", 0),
            family=family,
            invert="not" in entry,
            src=_selector(entry, "src", family),
            dst=_selector(entry, "dst", family),
            iif=word(entry, "iif"),
            oif=word(entry, "oif"),
            fwmark=number(entry, "fwmark"),
            fwmask=number(entry, "fwmask", 0xFFFFFFFF),
            tos=dsfield(entry["tos"]) if get("tos") is not None else None,
            dscp=_dscp(entry["dscp"]) if get("dscp") is not None else None,
            uid_range=_uid_range(entry),
            ipproto=proto_number(entry["ipproto"]) if get("ipproto") is not None else None,
            sport=_port_range(entry, "sport"),
            dport=_port_range(entry, "dport"),
            l3mdev="l3mdev" in entry,
            action=action,
            table=RT_TABLE_MAIN if table is None else self.tables.number(table),
            goto=goto,
            suppress_prefixlen=number(entry, "suppress_prefixlen", None, 128),
            suppress_ifgroup=None
            if group is None
            else 0
            if group == "default"
            else unsigned(group, "suppress_ifgroup"),
            realm=_rule_realm(entry),
            tun_id=number(entry, "tun_id", None, 0xFFFFFFFFFFFFFFFF),
            text=rule_text(entry),
            where=where,
        )
        for key in entry.keys() - KNOWN_RULE_KEYS:
            self.odd.append((f"{excerpt(key)} of ip rule {rule.priority}", where))
        return rule


def _selector(entry: Entry, key: str, family: int) -> Prefix | None:
    text = word(entry, key)
    if text is None or text in ("all", "any"):
        return None
    length = number(entry, key + "len", None, BITS[family])
    prefix = parse_prefix(text if length is None else f"{text}/{length}")
    if prefix.family != family:
        raise ValueError(f"{key}: {excerpt(text)} is of another address family")
    return prefix if prefix.plen else None


def _dscp(value: Any) -> int:
    if isinstance(value, str) and (value[:2].upper() in ("CS", "AF", "EF", "VA") or value == "LE"):
        return dsfield(value, "dscp") >> 2
    return 0 if value == "default" else unsigned(value, "dscp", 63)


def _uid_range(entry: Entry) -> tuple[int, int] | None:
    start = number(entry, "uid_start")
    return None if start is None else (start, number(entry, "uid_end", start))


def _port_range(entry: Entry, key: str) -> tuple[int, int] | None:
    single = number(entry, key, None, 65535)
    if single is not None:
        return single, single
    start = number(entry, key + "_start", None, 65535)
    return None if start is None else (start, number(entry, key + "_end", start, 65535))


def _rule_realm(entry: Entry) -> int:
    to, from_ = entry.get("flow_to"), entry.get("flow_from")
    if to is None and from_ is None:
        return 0
    return realms(to if from_ is None else f"{from_}/{to or 0}")


def rule_text(entry: Entry) -> str:
    """As ``ip rule`` prints it, without the priority."""
    parts = ["not"] if "not" in entry else []
    for key, said in (("src", "from"), ("dst", "to")):
        if entry.get(key) is not None:
            length = entry.get(key + "len")
            parts.append(f"{said} {entry[key]}" + (f"/{length}" if length is not None else ""))
    if entry.get("tos") is not None:
        parts.append(f"tos {entry['tos']}")
    if entry.get("dscp") is not None:
        parts.append(f"dscp {entry['dscp']}")
    if entry.get("fwmark") is not None:
        mask = entry.get("fwmask")
        parts.append(f"fwmark {entry['fwmark']}" + (f"/{mask}" if mask is not None else ""))
    parts += [f"{key} {entry[key]}" for key in ("iif", "oif") if entry.get(key) is not None]
    if entry.get("uid_start") is not None:
        parts.append(f"uidrange {entry['uid_start']}-{entry.get('uid_end', entry['uid_start'])}")
    if entry.get("ipproto") is not None:
        parts.append(f"ipproto {entry['ipproto']}")
    for key in ("sport", "dport"):
        if entry.get(key) is not None:
            parts.append(f"{key} {entry[key]}")
        elif entry.get(key + "_start") is not None:
            parts.append(f"{key} {entry[key + '_start']}-{entry.get(key + '_end')}")
    if entry.get("tun_id") is not None:
        parts.append(f"tun_id {entry['tun_id']}")
    parts.append(_rule_action(entry))
    for key, said in (
        ("suppress_prefixlen", "suppress_prefixlength"),
        ("suppress_ifgroup", "suppress_ifgroup"),
    ):
        if entry.get(key) is not None:
            parts.append(f"{said} {entry[key]}")
    return " ".join(parts)


def _rule_action(entry: Entry) -> str:
    if entry.get("goto") is not None:
        return f"goto {entry['goto']}"
    if "nop" in entry:
        return "nop"
    if entry.get("action") is not None:
        return str(entry["action"])
    if "l3mdev" in entry:
        return "lookup [l3mdev-table]"
    return f"lookup {entry.get('table', 'main')}"


# ── nexthop objects ──────────────────────────────────────────────────────────────────────────────────────


def read_nexthops(entries: Entries, problems: Problems) -> dict[int, NexthopObject]:
    """``ip -j -d nexthop``."""

    def one(entry: Entry, where: Where) -> NexthopObject | None:
        if not entry:
            return None
        nhid = unsigned(entry["id"], "id", 0xFFFFFFFF)
        group = entry.get("group")
        if group is not None:
            members = tuple((unsigned(m["id"], "id"), number(m, "weight", 1, 65536)) for m in group)
            return NexthopObject(nhid, None, members, False, entry.get("type") == "resilient", where)
        if "blackhole" in entry:
            return NexthopObject(nhid, None, (), True, False, where)
        from ..record import replace

        leg = replace(_leg(entry, AF_INET), nhid=nhid)
        return NexthopObject(nhid, leg, (), False, False, where)

    return {found.nhid: found for found in entries.read("nexthop", problems, one)}


def entries_of(data: Any, file: str, problems: Problems, family: int = AF_INET) -> Entries:
    """What ``json.loads`` gave, as entries: a list of objects, whatever else is an error."""
    if not isinstance(data, list):
        problems.error(f"expected a JSON list, got {type(data).__name__}", file, 1, "it is the output of: ip -j …")
        return Entries(file, [], family)
    items: list[tuple[int | None, Entry]] = []
    for position, entry in enumerate(data, 1):
        if isinstance(entry, dict):
            items.append((None, entry))
        else:
            problems.error(f"entry {position}: expected an object, got {excerpt(entry)}", file)
    return Entries(file, items, family)
