"""Plain (non-JSON) output of ``ip``, turned into the objects that ``ip -j`` prints, each with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from .iproute import TYPES, Entries, Entry
from .problems import Problems, excerpt

Line = tuple[int, str]
REMEDY = {
    "link": "ip -d link", "addr": "ip -d addr", "neigh": "ip neigh", "neigh-proxy": "ip neigh show proxy",
    "route": "ip -d -4 route show table all", "route6": "ip -d -6 route show table all", "rule": "ip -4 rule",
    "rule6": "ip -6 rule", "nexthop": "ip -d nexthop",
}  # fmt: skip


def read_plain(kind: str, text: str, file: str, family: int, problems: Problems) -> Entries:
    """The objects of a plain dump; ``kind`` as in file names."""
    parse = PARSERS.get(kind)
    items: list[tuple[int | None, Entry]] = []
    if parse is None:  # bridge fdb, bridge vlan: only looked at in JSON
        return Entries(file, items, family)
    for number, block in _blocks(text):
        try:
            items.append((number, parse(block)))
        except (ValueError, IndexError) as error:
            what = str(error) if isinstance(error, ValueError) else "ends too early"
            problems.error(f"{what}: {excerpt(block[0][1])}", file, number, f"it is the output of: {REMEDY[kind]}")
    return Entries(file, items, family)


def _blocks(text: str) -> Iterator[tuple[int, list[Line]]]:
    """An unindented line and the indented ones under it."""
    block: list[Line] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith(("#", "Error: ", "Dump terminated")):
            continue
        if line[0] in " \t" and block:
            block.append((number, line))
            continue
        if block:
            yield block[0][0], block
        block = [(number, line)]
    if block:
        yield block[0][0], block


class Words:
    """The words of a line, taken one after another."""

    def __init__(self, text: str) -> None:
        self.words = text.split()
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.words)

    def next(self) -> str:
        if self.at >= len(self.words):
            raise ValueError(f"{self.words[-1] if self.words else 'the line'} lacks its value")
        self.at += 1
        return self.words[self.at - 1]

    def peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def take(self, word: str) -> bool:
        """Skip a word if it is the next one."""
        if self.peek() != word:
            return False
        self.at += 1
        return True

    def number(self) -> int:
        text = self.next()
        if not (text.isascii() and text.isdigit() and len(text) < 21):
            raise ValueError(f"{self.words[self.at - 2]}: expected a number, got {excerpt(text)}")
        return int(text)


# ── links and addresses ──────────────────────────────────────────────────────────────────────────────────

_HEAD = re.compile(r"(?P<index>\d{1,10}): (?P<name>\S+): <(?P<flags>[^>]*)>(?P<rest>.*)$")
_OTHER_NS = re.compile(r"if(\d{1,10})$")


def _link(block: list[Line]) -> Entry:
    found = _HEAD.match(block[0][1])
    if found is None:
        raise ValueError("expected NUMBER: NAME: <FLAGS> …")
    name, _, below = found["name"].rpartition("@")
    entry: Entry = {
        "ifindex": int(found["index"]), "ifname": name or below, "flags": [f for f in found["flags"].split(",") if f],
        "addr_info": [],
    }  # fmt: skip
    if name:
        if other := _OTHER_NS.match(below):
            entry["link_index"], entry["link_netnsid"] = int(other[1]), None
        elif below != "NONE":
            entry["link"] = below
    words = Words(found["rest"])
    while words:
        key = words.next()
        if key == "mtu":
            entry["mtu"] = words.number()
        elif key in ("master", "group"):
            entry[key] = words.next()
        elif key.startswith("xdp"):
            entry["xdp"] = {}
    for number, line in block[1:]:
        _link_detail(entry, number, line)
    return entry


def _link_detail(entry: Entry, number: int, line: str) -> None:
    words = Words(line)
    first = words.next()
    if first.startswith("link/"):
        _link_layer(entry, first[5:], words)
    elif first in ("inet", "inet6"):
        entry["addr_info"].append(_address(first, words, number))
    elif first == "altname":
        entry.setdefault("altnames", []).append(words.next())
    elif first.startswith("prog/xdp") or first.startswith("xdp"):
        entry["xdp"] = {}
    elif "linkinfo" not in entry and re.match(r"[a-z][\w-]*$", first) and first not in _NO_KIND:
        entry["linkinfo"] = {"info_kind": first}
        if first == "bridge":
            told = (key for key in ("vlan_filtering", "nf_call_iptables") if f" {key} 1 " in f"{line} ")
            entry["linkinfo"]["info_data"] = dict.fromkeys(told, 1)
    elif first == "bridge_slave":
        entry.setdefault("linkinfo", {})["info_slave_data"] = {"hairpin": " hairpin on " in line}


# First words of detail lines that are not the kind of the link
_NO_KIND = frozenset(("alias", "valid_lft", "vf", "promiscuity", "bridge_slave", "bond_slave", "vrf_slave", "offload"))


def _link_layer(entry: Entry, kind: str, words: Words) -> None:
    entry["link_type"] = kind
    if words and words.peek() not in ("promiscuity", "link-netns", "link-netnsid"):
        entry["address"] = words.next()
    while words:
        key = words.next()
        if key == "link-netnsid":
            text = words.next()
            entry["link_netnsid"] = int(text) if text.isdigit() and len(text) < 10 else -1
        elif key == "link-netns":
            entry["link_netnsid"] = words.next()  # a name; the reader says "another namespace"
    if "link_netnsid" not in entry:
        return
    if "link" in entry and (other := _OTHER_NS.match(entry["link"])):
        entry["link_index"] = int(other[1])


def _address(first: str, words: Words, number: int) -> Entry:
    local, _, length = words.next().partition("/")
    info: Entry = {"family": first, "local": local, "line": number}
    last = ""
    while words:
        key = words.next()
        if key == "peer":
            info["address"], _, length = words.next().partition("/")
        elif key in ("brd", "scope"):
            info["broadcast" if key == "brd" else "scope"] = words.next()
        elif key in ("any", "metric", "proto"):
            words.next()
        else:
            info[key] = True
            last = key
    if first == "inet" and last:
        del info[last]
        info["label"] = last
    info["prefixlen"] = length or ("32" if first == "inet" else "128")
    return info


# ── neighbours ───────────────────────────────────────────────────────────────────────────────────────────


def _neighbour(block: list[Line]) -> Entry:
    words = Words(block[0][1])
    entry: Entry = {"dst": words.next()}
    while words:
        key = words.next()
        if key in ("dev", "lladdr"):
            entry[key] = words.next()
        elif key in ("used", "ref", "probes", "proto", "protocol", "nud"):
            words.next()
        elif key == "proxy":
            entry["proxy"] = None
        elif key.isupper():
            entry.setdefault("state", []).append(key)
    return entry


# ── routes ───────────────────────────────────────────────────────────────────────────────────────────────

ROUTE_FLAGS = frozenset((
    "onlink", "dead", "linkdown", "pervasive", "offload", "trap", "rt_offload", "rt_trap", "offload_failed",
    "rt_offload_failed", "notify", "unresolved", "equalize",
))  # fmt: skip
METRICS = frozenset((
    "mtu", "advmss", "window", "rtt", "rttvar", "ssthresh", "cwnd", "initcwnd", "initrwnd", "hoplimit", "reordering",
    "rto_min", "features", "quickack", "congctl", "fastopen_no_cookie",
))  # fmt: skip
_ROUTE_KEYS = {
    "tos": "tos", "dsfield": "tos", "dev": "dev", "table": "table", "proto": "protocol", "scope": "scope",
    "src": "prefsrc", "metric": "metric", "nhid": "nhid", "from": "from", "pref": "pref", "weight": "weight",
}  # fmt: skip
_ROUTE_NUMBERS = frozenset(("metric", "nhid", "weight"))


def _route(block: list[Line]) -> Entry:
    words = Words(block[0][1])
    entry: Entry = {
        "type": words.next() if words.peek() in TYPES else "unicast",
        "dst": words.next(),
        "flags": [],
    }
    _route_words(entry, words)
    for _, line in block[1:]:
        more = Words(line)
        first = more.next()
        if first == "nexthop":
            leg: Entry = {"flags": []}
            _route_words(leg, more)
            entry.setdefault("nexthops", []).append(leg)
        elif first == "nh_info":
            entry["nh_info"] = _nexthop([(0, line.replace("nh_info", "", 1))])
    return entry


def _route_words(entry: Entry, words: Words) -> None:
    while words:
        key = words.next()
        name = _ROUTE_KEYS.get(key)
        if name is not None:
            entry[name] = words.number() if key in _ROUTE_NUMBERS else words.next()
        elif key == "via":
            _gateway(entry, words)
        elif key in ROUTE_FLAGS:
            entry["flags"].append(key)
        elif key in ("realm", "realms"):
            head, slash, tail = words.next().partition("/")
            entry["flow"] = {"from": head, "to": tail} if slash else {"to": head}
        elif key in METRICS:
            _metric(entry, key, words)
        elif key == "nexthop":
            leg: Entry = {"flags": []}
            entry.setdefault("nexthops", []).append(leg)
            _route_words(leg, words)  # a route written on one line: all that follows are legs
        elif key == "encap":
            entry["encap"] = words.next()
        elif key in ("expires", "error", "age", "users", "used", "uid", "ttl-propagate"):
            words.next()


def _gateway(entry: Entry, words: Words) -> None:
    text = words.next()
    if text in ("inet", "inet6"):
        entry["via"] = {"family": text, "host": words.next()}
    else:
        entry["gateway"] = text


def _metric(entry: Entry, key: str, words: Words) -> None:
    metrics = entry.setdefault("metrics", [{}])[0]
    if words.take("lock"):
        metrics.setdefault("lock", []).append(key)
    if key in ("mtu", "advmss"):
        metrics[key] = words.number()
    elif words:
        words.next()


# ── policy rules ─────────────────────────────────────────────────────────────────────────────────────────

_RULE_WORDS = frozenset(("tos", "dsfield", "dscp", "iif", "oif", "ipproto", "suppress_ifgroup", "protocol"))


def _rule(block: list[Line]) -> Entry:
    head, colon, rest = block[0][1].partition(":")
    if not colon or not head.isdigit() or len(head) > 10:
        raise ValueError("expected PRIORITY: SELECTORS ACTION")
    entry: Entry = {"priority": int(head)}
    words = Words(rest)
    while words:
        _rule_word(entry, words.next(), words)
    return entry


def _rule_word(entry: Entry, key: str, words: Words) -> None:
    if key in ("not", "nop"):
        entry[key] = None
    elif key in ("from", "to"):
        side = "src" if key == "from" else "dst"
        entry[side], slash, length = words.next().partition("/")
        if slash:
            entry[side + "len"] = int(length) if length.isascii() and length.isdigit() and len(length) < 4 else length
    elif key in _RULE_WORDS:
        entry["tos" if key == "dsfield" else key] = words.next()
    elif key == "fwmark":
        entry["fwmark"], slash, mask = words.next().partition("/")
        if slash:
            entry["fwmask"] = mask
    elif key in ("uidrange", "sport", "dport"):
        low, dash, high = words.next().partition("-")
        name = "uid" if key == "uidrange" else key
        entry.update({f"{name}_start": low, f"{name}_end": high or low} if dash or name == "uid" else {name: low})
    elif key in ("lookup", "table"):
        table = words.next()
        entry.update({"l3mdev": None} if table == "[l3mdev-table]" else {"table": table})
    elif key == "goto":
        entry["goto"] = words.number()
    elif key in ("suppress_prefixlength", "suppress_prefixlen"):
        entry["suppress_prefixlen"] = words.number()
    elif key in ("realm", "realms"):
        head, slash, tail = words.next().partition("/")
        entry.update({"flow_from": head, "flow_to": tail} if slash else {"flow_to": head})
    elif key in ("blackhole", "unreachable", "prohibit"):
        entry["action"] = key
    elif key == "tun_id":
        entry["tun_id"] = words.number()
    elif key == "proto":
        words.next()
    elif key not in ("[detached]", "[unresolved]"):
        entry[key] = None  # a selector unknown here: the reader reports it


# ── nexthop objects ──────────────────────────────────────────────────────────────────────────────────────


def _nexthop(block: list[Line]) -> Entry:
    words = Words(block[0][1])
    if words.next() != "id":
        raise ValueError("expected id NUMBER …")
    entry: Entry = {"id": words.number(), "flags": []}
    while words:
        key = words.next()
        if key == "group":
            entry["group"] = [_member(text) for text in words.next().split("/")]
        elif key == "type":
            entry["type"] = words.next()
        elif key == "via":
            _gateway(entry, words)
        elif key == "blackhole":
            entry["blackhole"] = None
        elif key in ("dev", "scope", "proto"):
            entry[key] = words.next()
        elif key in ROUTE_FLAGS:
            entry["flags"].append(key)
        elif key in ("buckets", "idle_timer", "unbalanced_timer", "unbalanced_time", "encap"):
            words.next()
    return entry


def _member(text: str) -> dict[str, Any]:
    nhid, comma, weight = text.partition(",")
    return {"id": nhid, "weight": weight} if comma else {"id": nhid}


PARSERS: dict[str, Callable[[list[Line]], Entry]] = {
    "link": _link, "addr": _link, "neigh": _neighbour, "neigh-proxy": _neighbour, "route": _route, "route6": _route,
    "rule": _rule, "rule6": _rule, "nexthop": _nexthop,
}  # fmt: skip
