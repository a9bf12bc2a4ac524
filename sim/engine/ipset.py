"""Membership in sets: net/netfilter/ipset/ip_set_core.c ip_set_test(), ip_set_hash_gen.h mtype_test(), and the types.

:func:`test_set` serves the ``set`` match, :func:`find`, :func:`add_entry` and :func:`del_entry` the SET target. What
an element's key looks like is told in ``snapshot/ipset.py``. A change replaces the set's dict in the host state.
Sets that hold ranges from hand-written files are searched one by one, the others by key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from ..model.addr import AF_INET, BITS, mask_of
from ..model.drawn import Drawn, Number
from ..model.ipset import Element, IpSet
from ..model.packet import IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE
from ..record import NamedTuple
from . import wire

if TYPE_CHECKING:
    from ..model.packet import Skb
    from .run import Ctx

MATCH, NO, NOMATCH = 1, 0, -1  # NOMATCH: an element flagged nomatch was found (-ENOTEMPTY)
UNFAMILIAR = ("bitmap:port", "list:set", "hash:mac")  # types of NFPROTO_UNSPEC
DEFAULT_MAXELEM = 65536
PORT_PROTOCOLS = (IPPROTO_TCP, IPPROTO_SCTP, IPPROTO_UDP, IPPROTO_UDPLITE)


class Undecided(Exception):
    """The packet lacks what the set asks for, and nobody knows it; the text says what."""


class Query(NamedTuple):
    """struct ip_set_adt_opt. ``packets``/``octets``: (eq, ne, lt or gt; value) compared with the counters."""

    directions: tuple[str, ...]
    return_nomatch: bool = False
    update_counters: bool = True
    update_subcounters: bool = True
    packets: tuple[str, int] | None = None
    octets: tuple[str, int] | None = None


def test_set(ctx: Ctx, name: str, skb: Skb, directions: Sequence[str], *, return_nomatch: bool = False,
             update_counters: bool = True, update_subcounters: bool = True, packets: tuple[str, int] | None = None,
             octets: tuple[str, int] | None = None) -> bool:  # fmt: skip
    """Whether the packet is in the set; a set that the snapshot lacks is undecided."""
    query = Query(tuple(directions), return_nomatch, update_counters, update_subcounters, packets, octets)
    if name not in ctx.host.sets:
        return missing(ctx, name)
    try:
        return _test(ctx, ctx.host.sets[name], skb, query)
    except Undecided as why:
        return ctx.unknown(f"the set {name}: {why}", "missing_input")


def missing(ctx: Ctx, name: str) -> bool:
    """Both branches: a rule names a set that the snapshot does not have."""
    file = ctx.host.file_of.get("ipset", "ipset.txt")
    return ctx.unknown(f"the set {name} is not in the snapshot ({file}: ipset save)", "missing_input")


def find(ctx: Ctx, name: str, skb: Skb, directions: Sequence[str]) -> Element | None:
    """The element that the packet is in, for --map-set; None also where it is flagged nomatch."""
    ipset = ctx.host.sets.get(name)
    if ipset is None or not _applies(ipset, skb, directions):
        return None
    if ipset.type == "list:set":
        for member in _elements(ctx, ipset).values():
            if not expired(member, ctx) and (found := find(ctx, member.key[0], skb, directions)) is not None:
                return found
        return None
    try:
        found = next((e for e in _candidates(ctx, ipset, skb, directions) if not expired(e, ctx)), None)
    except Undecided:
        return None
    return None if found is None or found.nomatch else found


def add_entry(ctx: Ctx, name: str, skb: Skb, directions: Sequence[str], timeout: int | None = None,
              exist: bool = False) -> bool:  # fmt: skip
    """SET --add-set: ip_set_add(). ``timeout`` in seconds (None: the set's default). Whether something was added."""
    ipset = ctx.host.sets.get(name)
    if ipset is None or not _applies(ipset, skb, directions):
        return False
    elements = _elements(ctx, ipset)
    if ipset.type == "list:set":  # the first member that takes it
        members = [e.key[0] for e in elements.values() if not expired(e, ctx)]
        return any(add_entry(ctx, member, skb, directions, timeout, exist) for member in members)
    key = _own_key(ctx, ipset, skb, directions)
    if key is None:
        return False
    known = elements.get(key)
    if known is not None and not exist and not expired(known, ctx):
        return False
    if known is None and _is_full(ipset, elements, ctx):
        return False
    until = None
    if "timeout" in ipset.options:
        seconds = ipset.options["timeout"] if timeout is None else timeout
        until = ctx.now + seconds if seconds else None
    counters = (1, skb.length) if ipset.options.get("counters") else None
    _store(ctx, ipset, {**elements, key: Element(key, False, until, counters)})
    return True


def del_entry(ctx: Ctx, name: str, skb: Skb, directions: Sequence[str]) -> bool:
    """SET --del-set: ip_set_del(). Whether something was removed."""
    ipset = ctx.host.sets.get(name)
    if ipset is None or not _applies(ipset, skb, directions):
        return False
    elements = _elements(ctx, ipset)
    if ipset.type == "list:set":
        members = [e.key[0] for e in elements.values() if not expired(e, ctx)]
        return any(del_entry(ctx, member, skb, directions) for member in members)
    key = _own_key(ctx, ipset, skb, directions)
    if key is None or key not in elements or expired(elements[key], ctx):
        return False
    _store(ctx, ipset, {k: e for k, e in elements.items() if k != key})
    return True


def expired(element: Element, ctx: Ctx) -> bool:
    return element.timeout_at is not None and element.timeout_at < ctx.now


def dimensions(ipset: IpSet) -> list[str]:
    """``hash:net,port`` → net, port."""
    return ipset.type.partition(":")[2].split(",")


# ---- test --------------------------------------------------------------------------------------------------


def _test(ctx: Ctx, ipset: IpSet, skb: Skb, query: Query) -> bool:
    """ip_set_test()."""
    if not _applies(ipset, skb, query.directions):
        return False
    if ipset.type == "list:set":
        return _test_list(ctx, ipset, skb, query)
    found = NO
    for element in _candidates(ctx, ipset, skb, query.directions):
        if _extensions_match(ctx, ipset, element, skb, query):
            found = NOMATCH if element.nomatch else MATCH
            break
    nets = "net" in dimensions(ipset)
    return found == (NOMATCH if query.return_nomatch and nets else MATCH)


def _test_list(ctx: Ctx, ipset: IpSet, skb: Skb, query: Query) -> bool:
    """list_set_ktest(): the members in order; their counters are not compared."""
    inner = query._replace(packets=None, octets=None)
    if not query.update_subcounters:
        inner = inner._replace(update_counters=False)
    for member in _elements(ctx, ipset).values():
        name = member.key[0]
        hit = _test(ctx, ctx.host.sets[name], skb, inner) if name in ctx.host.sets else missing(ctx, name)
        if hit and _extensions_match(ctx, ipset, member, skb, query):
            return True
    return False


def _applies(ipset: IpSet, skb: Skb, directions: Sequence[str]) -> bool:
    """Whether the rule gives enough directions, and the packet is of the set's family."""
    if len(directions) < len(dimensions(ipset)):
        return False
    return ipset.type in UNFAMILIAR or ipset.options.get("family", skb.family) == skb.family


def _extensions_match(ctx: Ctx, ipset: IpSet, element: Element, skb: Skb, query: Query) -> bool:
    """ip_set_match_extensions(): timeout, then counters, which count this packet first."""
    if expired(element, ctx):
        return False
    if element.counters is None:
        return True
    packets, octets = element.counters
    if query.update_counters:
        packets, octets = packets + 1, octets + skb.length
        elements = _elements(ctx, ipset)
        _store(ctx, ipset, {**elements, element.key: element._replace(counters=(packets, octets))})
    return _compare(packets, query.packets) and _compare(octets, query.octets)


def _compare(value: int, wanted: tuple[str, int] | None) -> bool:
    if wanted is None:
        return True
    how, number = wanted
    return {"eq": value == number, "ne": value != number, "lt": value < number, "gt": value > number}[how]


def _elements(ctx: Ctx, ipset: IpSet) -> dict[tuple[Any, ...], Element]:
    return ctx.hs.sets.get(ipset.name, ipset.elements)


def _store(ctx: Ctx, ipset: IpSet, elements: dict[tuple[Any, ...], Element]) -> None:
    ctx.hs.sets[ipset.name] = elements


# ---- keys --------------------------------------------------------------------------------------------------


def _candidates(ctx: Ctx, ipset: IpSet, skb: Skb, directions: Sequence[str]) -> Iterator[Element]:
    """Elements that hold the packet, in the order in which the kernel finds them (longest prefix first)."""
    elements = _elements(ctx, ipset)
    names = dimensions(ipset)
    values = _values(ctx, ipset, skb, directions)
    if values is None or not elements:
        return
    if "port" in names:
        values = _pin(ctx, names, values, elements)
    if ipset.options.get("ranges"):
        yield from _scan(names, values, elements, _width(ipset))
    elif "iface" in names:
        yield from _by_interface(values, elements, _width(ipset))
    elif "mac" in names and "ip" in names and ipset.type.startswith("bitmap"):
        yield from _bitmap_mac(ctx, ipset, values, elements)
    else:
        for key in _keys(names, values, _shape(names, elements), _width(ipset)):
            if (element := elements.get(key)) is not None:
                yield element


def _values(ctx: Ctx, ipset: IpSet, skb: Skb, directions: Sequence[str]) -> list[Any] | None:
    """What the packet has in each dimension; None where it lacks one (then nothing matches)."""
    out: list[Any] = []
    for name, direction in zip(dimensions(ipset), directions, strict=False):
        source = direction == "src"
        value: Any = None
        if name in ("ip", "net"):
            value = _address(ipset, skb.src if source else skb.dst, name)
        elif name == "port":
            value = _port(skb, source, ctx)
            if ipset.type == "bitmap:port" and value is not None:
                value = value[1] if value[0] in (IPPROTO_TCP, IPPROTO_UDP) else None
        elif name == "iface":
            value = ctx.indev if source else ctx.outdev
        elif name == "mac":
            value = _mac(ctx, skb, source)
        elif name == "mark":
            value = skb.mark & ipset.options.get("markmask", 0xFFFFFFFF)
        if value is None:
            return None
        out.append(value)
    return out


def _address(ipset: IpSet, addr: int, name: str) -> int:
    if (netmask := ipset.options.get("netmask")) is not None and name == "ip":
        return addr & mask_of(ipset.options["family"], netmask)
    mask = ipset.options.get("bitmask")
    return addr if mask is None else addr & mask


def _port(skb: Skb, source: bool, ctx: Ctx) -> tuple[int, Number] | None:
    """ip_set_get_ip4_port(): (protocol, port or ICMP type and code, 0 for other protocols)."""
    portful = skb.proto in PORT_PROTOCOLS or skb.is_icmp
    if not portful:
        return (skb.proto, 0) if skb.proto else None
    if skb.frag or wire.transport_length(skb) < wire.L4_HEADER[skb.proto]:
        return None
    if skb.is_icmp:
        return skb.proto, skb.icmp_type << 8 | skb.icmp_code
    return skb.proto, ctx.ws.known(skb.sport if source else skb.dport)


def _mac(ctx: Ctx, skb: Skb, source: bool) -> int | None:
    link = ctx.host.links.get(ctx.indev or "")
    if ctx.indev is None or (link is not None and (link.loopback or link.mac is None)):
        return None  # no Ethernet header (yet)
    mac = skb.mac_src if source else skb.mac_dst
    if mac is None and not source and link is not None:
        mac = link.mac
    if mac is None:
        raise Undecided("the sender's MAC address is not known (say it with the key mac)")
    return mac or None


def _pin(ctx: Ctx, names: list[str], values: list[Any], elements: dict[tuple[Any, ...], Element]) -> list[Any]:
    """Decide a drawn port, of the packet or of an element that was added with one, against what the set holds."""
    place = names.index("port")
    proto, port = (None, values[place]) if isinstance(values[place], int | Drawn) else values[place]
    if not isinstance(port, Drawn) and not ctx.hs.misc.get("drawn_elements"):
        return values
    held: list[Any] = []
    for key in elements:
        entry = key[place]
        if proto is not None:
            if entry[0] != proto:
                continue
            entry = entry[1]
        held.append(entry)
    chosen: Any = next((one for one in held if _same_port(ctx, port, one)), -1 if isinstance(port, Drawn) else port)
    if isinstance(chosen, tuple) and not isinstance(chosen, Drawn):
        chosen = chosen[0]
    values = list(values)
    values[place] = chosen if proto is None else (proto, chosen)
    return values


def _same_port(ctx: Ctx, port: Number, entry: Any) -> bool:
    if isinstance(entry, tuple) and not isinstance(entry, Drawn):
        return ctx.in_range(port, *entry)
    return ctx.same(port, entry)


_shapes: dict[int, tuple[Any, Any]] = {}


def _shape(names: list[str], elements: dict[tuple[Any, ...], Element]) -> list[list[int]]:
    """Prefix lengths present in each net dimension, longest first (h->nets); remembered for the dict at hand."""
    known = _shapes.get(id(elements))
    if known is not None and known[0] is elements:
        lengths: list[list[int]] = known[1]
        return lengths
    places = [place for place, name in enumerate(names) if name == "net"]
    lengths = [sorted({key[place][1] for key in elements}, reverse=True) for place in places]
    if len(_shapes) > 64:
        _shapes.clear()
    _shapes[id(elements)] = (elements, lengths)
    return lengths


def _width(ipset: IpSet) -> int:
    return BITS[ipset.options.get("family", AF_INET)]


def _keys(names: list[str], values: list[Any], lengths: list[list[int]], bits: int) -> Iterator[tuple[Any, ...]]:
    """Keys that could hold the values, longest prefixes first, the first net dimension outermost."""
    combinations: list[list[Any]] = []
    nets = iter(lengths)
    for name, value in zip(names, values, strict=True):
        if name == "net":
            combinations.append([(value >> (bits - plen) << (bits - plen), plen) for plen in next(nets)])
        else:
            combinations.append([value])
    return product(*combinations)


def _scan(names: list[str], values: list[Any], elements: dict[tuple[Any, ...], Element],
          bits: int) -> Iterator[Element]:  # fmt: skip
    """Elements one by one, for sets with ranges; networks by falling prefix length."""

    def size(element: Element) -> list[int]:
        return [-part[1] for name, part in zip(names, element.key, strict=True) if name == "net"]

    for element in sorted(elements.values(), key=size):
        parts = zip(names, element.key, values, strict=True)
        if all(_holds(name, part, value, bits) for name, part, value in parts):
            yield element


def _holds(name: str, part: Any, value: Any, bits: int) -> bool:
    if name == "net":
        return bool((part[0] ^ value) >> (bits - part[1]) == 0)
    if name == "port" and isinstance(value, tuple):
        return bool(part[0] == value[0]) and _within(part[1], value[1])
    if name in ("ip", "port"):
        return _within(part, value)
    return bool(part == value)


def _within(part: Any, value: Any) -> bool:
    return bool(part[0] <= value <= part[1]) if isinstance(part, tuple) else bool(part == value)


def _by_interface(values: list[Any], elements: dict[tuple[Any, ...], Element], bits: int) -> Iterator[Element]:
    """hash:net,iface: once a network is in the set, shorter prefixes are not tried (mtype_test_cidrs(), "multi")."""
    addr, dev = values
    for plen in _shape(["net", "iface"], elements)[0]:
        network = (addr >> (bits - plen) << (bits - plen), plen)
        same = [e for e in elements.values() if e.key[0] == network and not e.key[1].startswith("physdev:")]
        fits = [e for e in same if _interface_fits(e.key[1], dev)]
        yield from fits
        if same and not fits:
            return


def _interface_fits(pattern: str, dev: str) -> bool:
    return dev.startswith(pattern[:-1]) if pattern.endswith("*") else dev == pattern


def _bitmap_mac(ctx: Ctx, ipset: IpSet, values: list[Any],
                elements: dict[tuple[Any, ...], Element]) -> Iterator[Element]:  # fmt: skip
    """bitmap:ip,mac: an element without MAC address takes the packet's and matches (-EAGAIN, IPSET_ADD)."""
    addr, mac = values
    if (element := elements.get((addr, mac))) is not None:
        yield element
    elif (element := elements.get((addr, None))) is not None:
        timeout = ipset.options.get("timeout")
        filled = element._replace(key=(addr, mac), timeout_at=ctx.now + timeout if timeout else None)
        _store(ctx, ipset, {k: e for k, e in elements.items() if k != element.key} | {filled.key: filled})
        yield filled


def _own_key(ctx: Ctx, ipset: IpSet, skb: Skb, directions: Sequence[str]) -> tuple[Any, ...] | None:
    """The key that adding this packet makes: networks get the longest prefix length already in the set."""
    try:
        values = _values(ctx, ipset, skb, directions)
    except Undecided as why:
        ctx.run.note(f"{ctx.host.name}: the set {ipset.name} stays as it is: {why}")
        return None
    if values is None:
        return None
    names = dimensions(ipset)
    elements = _elements(ctx, ipset)
    if "port" in names:
        _remember_drawn(ctx, values[names.index("port")])
    lengths = iter(_shape(names, elements))
    bits = BITS[skb.family]
    for place, name in enumerate(names):
        if name == "net":
            plen = next(iter(next(lengths)), bits)
            values[place] = (values[place] >> (bits - plen) << (bits - plen), plen)
        elif name == "ip" and not values[place] and ipset.type in ("hash:ip", "hash:ip,port"):
            return None
    span = ipset.options.get("range")
    if ipset.type.startswith("bitmap") and span is not None and not span[0] <= values[0] <= span[1]:
        return None
    return tuple(values)


def _remember_drawn(ctx: Ctx, value: Any) -> None:
    """A drawn port goes into the key as its token; from then on elements are compared one by one."""
    if isinstance(value, Drawn) or (isinstance(value, tuple) and isinstance(value[1], Drawn)):
        ctx.hs.misc["drawn_elements"] = True


def _is_full(ipset: IpSet, elements: dict[tuple[Any, ...], Element], ctx: Ctx) -> bool:
    """Whether a hash has no room; with forceadd the kernel throws out a random element, which is not modelled."""
    if not ipset.type.startswith("hash") or ipset.options.get("forceadd"):
        return False
    most = ipset.options.get("maxelem", DEFAULT_MAXELEM)
    return len(elements) >= most and sum(not expired(e, ctx) for e in elements.values()) >= most
