"""``ipset.txt``: the output of ``ipset save`` (or a hand-written ``ipset restore`` file).

Key shapes, relied on by the ``set`` match. A key has one entry per dimension of the type (``hash:net,port`` has two),
in the order of the type's name:

    dimension   entry                                   example
    ip          int, host order                         10.0.0.1 → 0x0a000001
                (first, last) for a range *)            10.0.0.0/8 in hash:ip → (0x0a000000, 0x0affffff)
    net         (network, prefix length)                10.0.0.0/8 → (0x0a000000, 8); a single address has /32 or /128
    port        (protocol number, port)                 tcp:80 → (6, 80); without protocol: tcp
                (protocol number, (first, last)) *)     udp:5000-5010 → (17, (5000, 5010))
                icmp and icmpv6: port is type << 8 | code; protocols without ports: 0
    port        int in ``bitmap:port``; (first, last) *)  80 → 80
    iface       str; "physdev:" before a bridge port    eth0 → "eth0", physdev:eth1 → "physdev:eth1"
                "*" after it: ``wildcard``, a prefix    eth wildcard → "eth*"
    mac         int of 48 bits; None: not known yet (bitmap:ip,mac)
    mark        int
    set         str, the name of the member set (list:set: the order of ``elements`` is the order of evaluation)

*) ``ipset save`` prints no ranges; they come from hand-written files only and are not expanded, so that a /8 does not
exhaust memory. Where a set holds one, ``options["ranges"]`` is True. A range of a *net* dimension becomes the networks
that cover it exactly. ``hash:ip`` with ``netmask`` holds masked addresses, as the kernel does.

``options``: family (AF_INET or AF_INET6; bitmap and list sets: AF_INET), hashsize, maxelem, netmask, bitmask (int mask),
timeout (default of new elements), range ((first, last) of a bitmap), markmask, size, counters, comment, skbinfo,
forceadd (True where given), bucketsize, initval.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..model.addr import AF_INET, AF_INET6, BITS, mask_of, parse_addr
from ..model.ipset import Element, IpSet
from ..model.where import Where
from ..record import replace
from .problems import Problems, excerpt
from .words import parse_mac, proto_number, service_port, unsigned

FLAGS = ("counters", "comment", "skbinfo", "forceadd", "wildcard", "nomatch")
NUMBERS = (
    "hashsize",
    "maxelem",
    "timeout",
    "size",
    "bucketsize",
    "initval",
    "markmask",
    "probes",
    "resize",
    "gc",
)
DIMENSIONS = ("ip", "net", "port", "iface", "mac", "mark", "set")
MOST_KEYS = 1024  # networks that the ranges of one element may need
ICMP_NAMES = {
    "echo-reply": (0, 0), "pong": (0, 0), "network-unreachable": (3, 0), "host-unreachable": (3, 1),
    "protocol-unreachable": (3, 2), "port-unreachable": (3, 3), "fragmentation-needed": (3, 4),
    "source-route-failed": (3, 5), "network-unknown": (3, 6), "host-unknown": (3, 7), "network-prohibited": (3, 9),
    "host-prohibited": (3, 10), "TOS-network-unreachable": (3, 11), "TOS-host-unreachable": (3, 12),
    "communication-prohibited": (3, 13), "host-precedence-violation": (3, 14), "precedence-cutoff": (3, 15),
    "source-quench": (4, 0), "network-redirect": (5, 0), "host-redirect": (5, 1), "TOS-network-redirect": (5, 2),
    "TOS-host-redirect": (5, 3), "echo-request": (8, 0), "ping": (8, 0), "router-advertisement": (9, 0),
    "router-solicitation": (10, 0), "ttl-zero-during-transit": (11, 0), "ttl-zero-during-reassembly": (11, 1),
    "ip-header-bad": (12, 0), "required-option-missing": (12, 1), "timestamp-request": (13, 0),
    "timestamp-reply": (14, 0), "address-mask-request": (17, 0), "address-mask-reply": (18, 0),
}  # fmt: skip
ICMPV6_NAMES = {
    "no-route": (1, 0), "communication-prohibited": (1, 1), "beyond-scope": (1, 2), "address-unreachable": (1, 3),
    "port-unreachable": (1, 4), "failed-policy": (1, 5), "reject-route": (1, 6), "packet-too-big": (2, 0),
    "ttl-zero-during-transit": (3, 0), "ttl-zero-during-reassembly": (3, 1), "bad-header": (4, 0),
    "unknown-header-type": (4, 1), "unknown-option": (4, 2), "echo-request": (128, 0), "ping": (128, 0),
    "echo-reply": (129, 0), "pong": (129, 0), "router-solicitation": (133, 0), "router-advertisement": (134, 0),
    "neighbour-solicitation": (135, 0), "neigbour-solicitation": (135, 0), "neighbour-advertisement": (136, 0),
    "neigbour-advertisement": (136, 0), "redirect": (137, 0),
}  # fmt: skip
_WORD = re.compile(r'"[^"]*"|\S+')


def read_ipset(text: str, file: str, problems: Problems) -> dict[str, IpSet]:
    """The sets of ``ipset save``, by name, in file order."""
    sets: dict[str, IpSet] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#") or line == "COMMIT":
            continue
        try:
            _command(line, Where(file, number), sets)
        except ValueError as error:
            problems.error(f"{error}: {excerpt(line)}", file, number, "the file is the output of: ipset save")
    return sets


def _command(line: str, where: Where, sets: dict[str, IpSet]) -> None:
    verb, _, rest = line.partition(" ")
    if verb in ("create", "-N", "--create", "n"):
        ipset = _create(rest.strip(), where)
        sets[ipset.name] = ipset
    elif verb in ("add", "-A", "--add"):
        _add(rest.strip(), sets)
    elif verb not in ("destroy", "flush", "-X", "-F", "-exist", "save", "list"):
        raise ValueError("expected create or add")


def _create(rest: str, where: Where) -> IpSet:
    """``NAME TYPE options``; a name may hold spaces (``ipset save`` doesn't quote it)."""
    found = re.match(r"(?P<name>.+?)\s+(?P<type>(?:bitmap|hash|list):[a-z,]+)(?P<options>(?:\s.*)?)$", rest)
    if not found:
        raise ValueError("expected a name and a type")
    type_ = found["type"]
    if any(part not in DIMENSIONS for part in type_.partition(":")[2].split(",")):
        raise ValueError(f"unknown set type {type_}")
    options: dict[str, Any] = {"family": AF_INET}
    words = iter(_WORD.findall(found["options"]))
    for word in words:
        if word in FLAGS:
            options[word] = True
            continue
        value = next(words, None)
        if value is None:
            raise ValueError(f"{word} lacks its value")
        options[word] = _create_option(word, value, options)
    return IpSet(found["name"].strip('"'), type_, options, {}, where)


def _create_option(word: str, value: str, options: dict[str, Any]) -> Any:
    if word == "family":
        if value not in ("inet", "inet6", "ipv4", "ipv6", "-4", "-6"):
            raise ValueError(f"unknown family {excerpt(value)}")
        return AF_INET6 if value.endswith("6") else AF_INET
    if word == "range":
        return _range_option(value)
    if word == "netmask":
        return unsigned(value, word, BITS[options["family"]])
    if word == "bitmask":
        return parse_addr(value)[1]
    if word in NUMBERS:
        return unsigned(value, word, 0xFFFFFFFF)
    raise ValueError(f"unknown option {excerpt(word)}")


def _range_option(value: str) -> tuple[int, int]:
    """``10.0.0.0-10.0.0.255``, ``10.0.0.0/24`` or ``0-1024``."""
    low, dash, high = value.partition("-")
    if "." not in value:
        first = unsigned(low, "range", 65535)
        return first, unsigned(high, "range", 65535) if dash else first
    span = _ip(value, AF_INET)
    return (span, span) if isinstance(span, int) else span


def _add(rest: str, sets: dict[str, IpSet]) -> None:
    name, ipset = _which(rest, sets)
    words = _WORD.findall(rest[len(name) :])
    if not words:
        raise ValueError("no element after the name of the set")
    element = words[0].strip('"')
    if ipset.type == "list:set" and element in sets and sets[element].type == "list:set":
        raise ValueError("a list:set cannot hold another")  # list_set_uadt(): -IPSET_ERR_LOOP
    timeout = ipset.options.get("timeout") or None
    fields: dict[str, Any] = {"timeout_at": float(timeout) if timeout else None}
    counters = [0, 0]
    place: tuple[str, str] | None = None
    rest_words = iter(words[1:])
    for word in rest_words:
        if word == "nomatch":
            fields["nomatch"] = True
            continue
        if word == "wildcard":
            element += "*"
            continue
        value = next(rest_words, None)
        if value is None:
            raise ValueError(f"{word} lacks its value")
        if word in ("before", "after"):
            place = word, value
        else:
            _add_option(word, value, fields, counters)
    if ipset.options.get("counters") or any(counters):
        fields["counters"] = (counters[0], counters[1])
    for key in _keys(element, ipset):
        _put(ipset.elements, Element(key, **fields), place)


def with_element(ipset: IpSet, element: str) -> IpSet:
    """The set after ``ipset add``; the given one stays as it is. Raises ValueError for what is no element of its type."""
    changed = replace(ipset, elements=dict(ipset.elements))
    _add(f"{ipset.name} {element}", {ipset.name: changed})
    return changed


def _which(rest: str, sets: dict[str, IpSet]) -> tuple[str, IpSet]:
    """The set that an ``add`` line names; names may hold spaces, so the longest known one counts."""
    name = rest.partition(" ")[0]
    if name in sets and not any(known.startswith(name + " ") for known in sets):
        return name, sets[name]
    fitting = [known for known in sets if rest.startswith(known + " ")]
    if not fitting:
        raise ValueError(f"no set of the name {excerpt(name)} was created above")
    name = max(fitting, key=len)
    return name, sets[name]


def _add_option(word: str, value: str, fields: dict[str, Any], counters: list[int]) -> None:
    if word == "timeout":
        seconds = unsigned(value, word, 0xFFFFFFFF)
        fields["timeout_at"] = float(seconds) if seconds else None
    elif word in ("packets", "bytes"):
        counters[word == "bytes"] = unsigned(value, word)
    elif word == "comment":
        fields["comment"] = value[1:-1] if value.startswith('"') else value
    elif word == "skbmark":
        mark, slash, mask = value.partition("/")
        fields["skbmark"] = (unsigned(mark, word, 0xFFFFFFFF), unsigned(mask, word) if slash else 0xFFFFFFFF)
    elif word == "skbprio":
        major, _, minor = value.partition(":")
        fields["skbprio"] = (int(major, 16), int(minor or "0", 16))
    elif word != "skbqueue":
        raise ValueError(f"unknown option {excerpt(word)}")


def _put(elements: dict[tuple[Any, ...], Element], element: Element, place: tuple[str, str] | None) -> None:
    if place is None:
        elements[element.key] = element
        return
    side, other = place
    order = [e for e in elements.values() if e.key != element.key]
    at = next((i for i, e in enumerate(order) if e.key == (other,)), None)
    if at is None:
        raise ValueError(f"{excerpt(other)} is not in the list")
    order.insert(at + (side == "after"), element)
    elements.clear()
    elements.update((e.key, e) for e in order)


def _keys(text: str, ipset: IpSet) -> list[tuple[Any, ...]]:
    """The keys one element stands for: one, except where a range in a net dimension needs several networks."""
    kind, _, dims = ipset.type.partition(":")
    names = dims.split(",")
    if names == ["set"]:
        return [(text,)]
    parts = text.split(",")
    if ipset.type == "bitmap:ip,mac" and len(parts) == 1:
        parts.append("")
    if len(parts) != len(names):
        raise ValueError(f"an element of {ipset.type} has {len(names)} parts, not {len(parts)}")
    family = ipset.options["family"]
    keys: list[tuple[Any, ...]] = [()]
    for name, part in zip(names, parts, strict=True):
        if name == "net":
            keys = [(*key, net) for key in keys for net in _nets(part, family)]
            if len(keys) > MOST_KEYS:
                raise ValueError("the ranges need too many networks")
            continue
        entry = _ENTRY[name](part, family) if (kind, name) != ("bitmap", "port") else _bitmap_port(part)
        if name == "ip" and (netmask := ipset.options.get("netmask")) is not None:
            entry = _masked(entry, mask_of(family, netmask))
        elif name == "ip" and (bitmask := ipset.options.get("bitmask")) is not None:
            entry = _masked(entry, bitmask)
        elif name == "mark":
            entry &= ipset.options.get("markmask", 0xFFFFFFFF)
        if isinstance(entry, tuple) and (name == "ip" or kind == "bitmap" or isinstance(entry[1], tuple)):
            ipset.options["ranges"] = True
        keys = [(*key, entry) for key in keys]
    return keys


def _masked(entry: int | tuple[int, int], mask: int) -> int | tuple[int, int]:
    """An address under the set's netmask; a range that falls into one masked address becomes it."""
    if isinstance(entry, int):
        return entry & mask
    first, last = entry[0] & mask, entry[1] & mask
    return first if first == last else (first, last)


def _span(text: str, family: int) -> tuple[int, int]:
    """``A``, ``A/len`` or ``A-B`` as first and last address."""
    bits = BITS[family]
    head, dash, tail = text.partition("-")
    if dash:
        first, last = parse_addr(head), parse_addr(tail)
        if first[0] != family or last[0] != family or first[1] > last[1]:
            raise ValueError(f"not a range of addresses: {excerpt(text)}")
        return first[1], last[1]
    head, slash, tail = text.partition("/")
    found, value = parse_addr(head)
    if found != family:
        raise ValueError(f"{excerpt(head)} is of another address family than the set")
    mask = mask_of(family, unsigned(tail, "prefix length", bits)) if slash else (1 << bits) - 1
    return value & mask, value & mask | ~mask & ((1 << bits) - 1)


def _ip(text: str, family: int) -> int | tuple[int, int]:
    first, last = _span(text, family)
    return first if first == last else (first, last)


def _nets(text: str, family: int) -> list[tuple[int, int]]:
    """The fewest networks that cover the range exactly."""
    first, last = _span(text, family)
    bits = BITS[family]
    nets: list[tuple[int, int]] = []
    while first <= last:
        align = (first & -first).bit_length() - 1 if first else bits
        size = min(align, (last - first + 1).bit_length() - 1)
        nets.append((first, bits - size))
        first += 1 << size
    return nets


def _port(text: str, family: int) -> tuple[int, int | tuple[int, int]]:
    head, colon, tail = text.partition(":")
    if not colon:
        head, tail = "tcp", head
    proto = proto_number(head)
    names = ICMP_NAMES if proto == 1 else ICMPV6_NAMES if proto == 58 else None
    if names is not None:
        if tail in names:
            type_, code = names[tail]
        else:
            left, slash, right = tail.partition("/")
            type_, code = unsigned(left, "ICMP type", 255), unsigned(right, "ICMP code", 255) if slash else 0
        return proto, type_ << 8 | code
    return proto, _ports(tail, head)


def _ports(text: str, proto: str = "tcp") -> int | tuple[int, int]:
    low, dash, high = text.partition("-")
    first = service_port(low)
    last = service_port(high) if dash else first
    if first > last:
        raise ValueError(f"not a range of ports: {excerpt(text)}")
    return first if first == last else (first, last)


def _bitmap_port(text: str) -> int | tuple[int, int]:
    return _ports(text.rpartition(":")[2])


_ENTRY: dict[str, Callable[[str, int], Any]] = {
    "ip": _ip,
    "port": _port,
    "iface": lambda text, family: text,
    "mac": lambda text, family: parse_mac(text) if text else None,
    "mark": lambda text, family: unsigned(text, "mark", 0xFFFFFFFF),
}
