"""What-if edits: small frozen objects that make a changed copy of a World and know the commands that would do it.

edit = SetSysctl("router", "net.ipv4.ip_forward", "1")
edit.apply(world)      # a new World; the old one is untouched
edit.commands()        # ["sysctl -w net.ipv4.ip_forward=1"]
"""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import InputError
from ..model.addr import AF_INET, AF_INET6, format_addr
from ..model.route import Route
from ..model.where import Where
from ..model.world import Host, Setting, World
from ..record import dataclass
from ..snapshot.sysctl import is_wrong
from .whatif_ip import add_fib_rule, add_route, delete_fib_rule, delete_route, parse_fib_rule, parse_route

WHERE = Where("what-if")


class Edit(Protocol):
    """One change to one host. ``kind`` orders fixes of equal length: the least intrusive first."""

    @property
    def host(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def apply(self, world: World) -> World: ...

    def commands(self) -> list[str]: ...


def host_of(world: World, name: str) -> Host:
    host = world.hosts.get(name)
    if host is None:
        raise InputError(f"no host {name!r} in the snapshot", remedy=f"hosts: {', '.join(world.hosts)}")
    return host


def apply_all(world: World, edits: tuple[Edit, ...] | list[Edit]) -> World:
    for edit in edits:
        world = edit.apply(world)
    return world


# ------------------------------------------------------------------------------------------------ sysctl


def sysctl_name(text: str) -> str:
    """``net/ipv4/conf/eth0.1/rp_filter`` and ``net.ipv4.conf.eth0/1.rp_filter`` to the snapshot's dotted form."""
    slash, dot = text.find("/"), text.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        return text.translate(str.maketrans("./", "/."))
    return text


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """``sysctl -w``: with what the kernel copies on such a write."""

    host: str
    name: str
    value: str
    kind = "sysctl"

    def apply(self, world: World) -> World:
        host = host_of(world, self.host)
        if is_wrong(self.name, self.value):
            raise InputError(f"{self.name}: expected a number, got {self.value!r}")
        values = dict(host.sysctl)
        setting = Setting(self.value, WHERE)
        if self.name in values and values[self.name].value.strip() == self.value:
            return world  # devinet_sysctl_forward(): writing the value it has copies nothing
        for name in (self.name, *self._copied(host, values)):
            values[name] = setting
        return world.with_host(host.with_(sysctl=values, files=host.files | {"sysctl"}))

    def _copied(self, host: Host, values: dict[str, Setting]) -> list[str]:
        # net/ipv4/devinet.c inet_forward_change(), net/ipv6/addrconf.c addrconf_fixup_forwarding()
        if self.name in ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"):
            family = "ipv4"
        elif self.name == "net.ipv6.conf.all.forwarding":
            family = "ipv6"
        else:
            return []
        devices = [dev.replace(".", "/") for dev in host.links] + ["all", "default"]
        copies = [f"net.{family}.conf.{dev}.forwarding" for dev in devices]
        copies += [n for n in values if n.startswith(f"net.{family}.conf.") and n.endswith(".forwarding")]
        return [*copies, "net.ipv4.ip_forward"] if family == "ipv4" else copies

    def commands(self) -> list[str]:
        return [
            f"sysctl -w {self.name}={self.value}" if " " not in self.value else f"sysctl -w {self.name}='{self.value}'"
        ]


# ----------------------------------------------------------------------------------------------- routing


@dataclass(frozen=True, slots=True)
class RouteEdit:
    """``ip route VERB SPEC``."""

    host: str
    spec: str
    verb: str = "add"
    kind = "route"

    def apply(self, world: World) -> World:
        host = host_of(world, self.host)
        if self.verb == "del":
            complete = {"dev", "via", "unreachable", "prohibit", "blackhole", "throw", "local"} & set(self.spec.split())
            words = self.spec if complete else f"throw {self.spec}"
            return world.with_host(delete_route(host, parse_route(host, words), self.spec))
        route = parse_route(host, self.spec)
        same = host.routes.get((route.prefix.family, route.table), ())
        if self.verb == "add" and any(_fib_key(r) == _fib_key(route) for r in same):
            raise InputError(
                f"ip route add {self.spec}: {host.name} has a route like that: File exists", remedy="replace …"
            )
        return world.with_host(add_route(host, route, self.verb in ("replace", "change")))

    def commands(self) -> list[str]:
        return [f"ip route {self.verb} {self.spec}"]


def _fib_key(route: Route) -> tuple[Any, ...]:
    """What no two routes of a table share unless appended (fib_table_insert() with NLM_F_EXCL)."""
    return route.prefix, route.tos, route.metric


@dataclass(frozen=True, slots=True)
class PolicyRuleEdit:
    """``ip rule VERB SPEC``."""

    host: str
    spec: str
    verb: str = "add"
    kind = "policy rule"

    def apply(self, world: World) -> World:
        host = host_of(world, self.host)
        if self.verb == "del":
            return world.with_host(delete_fib_rule(host, self.spec))
        rule = parse_fib_rule(host, self.spec)
        return world.with_host(add_fib_rule(host, rule))

    def commands(self) -> list[str]:
        return [f"ip rule {self.verb} {self.spec}"]


# ------------------------------------------------------------------------------------------- rule sets


@dataclass(frozen=True, slots=True)
class RuleEdit:
    """``iptables …``: one -A, -I, -D, -R, -P, -N … as typed. ``position`` of -I stands in the text itself."""

    host: str
    text: str
    family: int = AF_INET
    backend: str | None = None
    kind = "rule"

    def apply(self, world: World) -> World:
        from .whatif_rules import edit_rules

        host = host_of(world, self.host)
        return world.with_host(edit_rules(host, self.text, self.family, self.backend))

    def commands(self) -> list[str]:
        program = "ip6tables" if self.family == AF_INET6 else "iptables"
        if self.backend == "legacy":
            program += "-legacy"
        return [f"{program} {self.text}"]


# ------------------------------------------------------------------------------------------- conntrack


@dataclass(frozen=True, slots=True)
class ConntrackFlush:
    """``conntrack -F``."""

    host: str
    kind = "conntrack"

    def apply(self, world: World) -> World:
        return world.with_host(host_of(world, self.host).with_(conns=(), expectations=()))

    def commands(self) -> list[str]:
        return ["conntrack -F"]


@dataclass(frozen=True, slots=True)
class ConntrackDelete:
    """``conntrack -D`` of one entry, named by its original direction and its zones (``reply_zone`` None: the same)."""

    host: str
    orig: Any  # model.conntrack.Tuple
    zone: int = 0
    reply_zone: int | None = None
    kind = "conntrack"

    def apply(self, world: World) -> World:
        host = host_of(world, self.host)
        kept = tuple(c for c in host.conns if (c.tuples[0], c.zones[0]) != (self.orig, self.zone))
        return world.with_host(host.with_(conns=kept))

    def commands(self) -> list[str]:
        from ..model.packet import PROTO_NAME, WITH_PORTS

        o = self.orig
        src, dst = format_addr(o.family, o.src), format_addr(o.family, o.dst)
        words = f"conntrack -D -p {PROTO_NAME.get(o.proto, o.proto)} -s {src} -d {dst}"
        if o.proto in WITH_PORTS:
            words += f" --sport {o.sport} --dport {o.dport}"
        elif o.proto in (1, 58):
            words += f" --icmp{'v6' if o.proto == 58 else ''}-id {o.sport}"
        elif o.proto == 47:  # without keys, conntrack 1.4.7 deletes other protocols' entries too
            words += f" --srckey {o.sport:#x} --dstkey {o.dport:#x}"
        back = self.zone if self.reply_zone is None else self.reply_zone
        if self.zone and self.zone == back:
            words += f" --zone {self.zone}"
        else:
            words += f" --orig-zone {self.zone}" if self.zone else ""
            words += f" --reply-zone {back}" if back else ""
        return [words]

    def hits(self, world: World) -> int:
        """How many entries the command deletes: what it does not name it does not ask for (conntrack 1.4.7)."""
        back = self.zone if self.reply_zone is None else self.reply_zone
        wanted = _named(self.orig)
        return sum(
            1 for c in host_of(world, self.host).conns
            if _named(c.tuples[0]) == wanted and (not self.zone or c.zones[0] == self.zone) and (not back or c.zones[1] == back)
        )  # fmt: skip


def _named(orig: Any) -> tuple[Any, ...]:
    """What ``conntrack -D`` compares: of GRE no keys, of ICMP neither type nor code."""
    from ..model.packet import WITH_PORTS

    ports = (orig.sport, orig.dport) if orig.proto in WITH_PORTS else (orig.sport,) if orig.proto in (1, 58) else ()
    return orig.family, orig.proto, orig.src, orig.dst, ports


@dataclass(frozen=True, slots=True)
class Without:
    """The snapshot as if a file were not in it: ``iptables-save.txt`` or ``router/conntrack.txt``."""

    host: str
    file: str
    kind = "without"

    def apply(self, world: World) -> World:
        host = host_of(world, self.host)
        kind = file_kind(self.file)
        return world.with_host(_without(host, kind, self.file))

    def commands(self) -> list[str]:
        return [f"(without {self.file})"]


_KINDS = {
    "iptables-save": "iptables", "ip6tables-save": "ip6tables", "iptables-legacy-save": "iptables-legacy",
    "ip6tables-legacy-save": "ip6tables-legacy", "neigh-proxy": "neigh_proxy",
}  # fmt: skip


def file_kind(name: str) -> str:
    """``conntrack.txt`` → ``conntrack``."""
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return _KINDS.get(stem, stem)


def _without(host: Host, kind: str, name: str) -> Host:
    files = host.files - {kind, name.rsplit("/", 1)[-1].rsplit(".", 1)[0]}
    empty: dict[str, dict[str, Any]] = {
        "conntrack": {"conns": ()}, "expect": {"expectations": ()}, "sysctl": {"sysctl": {}}, "sockets": {"sockets": None},
        "ipset": {"sets": {}}, "neigh": {"neighbours": tuple(n for n in host.neighbours if n.proxy)},
        "neigh_proxy": {"neighbours": tuple(n for n in host.neighbours if not n.proxy)}, "addr": {"addresses": ()},
        "link": {"links": {}}, "passwd": {"users": {}}, "group": {"groups": {}}, "hosts": {"names": {}}, 
        "nexthop": {"nexthops": {}},
        "route": {"routes": {k: v for k, v in host.routes.items() if k[0] != AF_INET}},
        "route6": {"routes": {k: v for k, v in host.routes.items() if k[0] != AF_INET6}},
        "rule": {"rules": {k: v for k, v in host.rules.items() if k != AF_INET}},
        "rule6": {"rules": {k: v for k, v in host.rules.items() if k != AF_INET6}},
        "nft": {"foreign": ()},
    }  # fmt: skip
    if kind in empty:
        return host.with_(files=files, **empty[kind])
    table = {
        "iptables": (AF_INET, False), "ip6tables": (AF_INET6, False), "iptables-legacy": (AF_INET, True),
        "ip6tables-legacy": (AF_INET6, True),
    }.get(kind)  # fmt: skip
    if table is None:
        raise InputError(f"--without {name}: not a file of a snapshot", remedy=f"known: {', '.join(sorted(empty))}")
    family, legacy = table
    kept = tuple(t for t in host.tables if t.family != family or (t.backend == "legacy") != legacy)
    return host.with_(files=files, tables=kept)


# ------------------------------------------------------------------------------- from the command line


def parse_edits(world: World, options: dict[str, Any], default_host: str | None) -> list[Edit]:
    """``--set a=b [at HOST]``, ``--add 'iptables rule'`` … as given on the command line, in a fixed order."""
    edits: list[Edit] = []
    for text in options.get("without", ()):
        name, slash, file = text.partition("/")
        if slash and name in world.hosts:
            edits.append(Without(name, file))
        else:
            edits += [Without(host, text) for host in world.hosts]
    for text in options.get("set", ()):
        body, host = _at(world, text, default_host, "--set")
        name, equals, value = body.partition("=")
        if not equals or not name.strip():
            raise InputError(
                f"--set {text!r}: expected NAME=VALUE", remedy="example: --set 'net.ipv4.ip_forward=1 at router'"
            )
        edits.append(SetSysctl(host, sysctl_name(name.strip()), value.strip()))
    for option, letter in (("delete", "-D"), ("insert", "-I"), ("add", "-A")):
        for text in options.get(option, ()):
            edits.append(_rule_edit(world, text, letter, default_host, f"--{option}"))
    for option, cls in (("route", RouteEdit), ("rule", PolicyRuleEdit)):
        for text in options.get(option, ()):
            body, host = _at(world, text, default_host, f"--{option}")
            words = body.split()
            if words[:2] == ["ip", option]:
                words = words[2:]
            verb = (
                words.pop(0) if words and words[0] in ("add", "del", "delete", "replace", "append", "change") else "add"
            )
            edits.append(cls(host, " ".join(words), {"delete": "del"}.get(verb, verb)))
    if options.get("conntrack_flush"):
        edits += [ConntrackFlush(host) for host in world.hosts]
    return edits


def _at(world: World, text: str, default: str | None, option: str) -> tuple[str, str]:
    """Split off ``at HOST`` at the end."""
    head, found, tail = text.rpartition(" at ")
    if found and tail.strip() in world.hosts:
        return head.strip(), tail.strip()
    if found and " " not in tail.strip():
        raise InputError(f"{option} {text!r}: no host {tail.strip()!r}", remedy=f"hosts: {', '.join(world.hosts)}")
    if default is None and len(world.hosts) != 1:
        raise InputError(
            f"{option} {text!r}: which host?", remedy=f"add one of: {', '.join('at ' + h for h in world.hosts)}"
        )
    return text.strip(), default or next(iter(world.hosts))


def _rule_edit(world: World, text: str, letter: str, default: str | None, option: str) -> RuleEdit:
    """``iptables -t nat -A POSTROUTING …`` or without the verb: ``-t nat POSTROUTING …``."""
    body, host = _at(world, text, default, option)
    words = body.split(" ")
    family, backend = AF_INET, None
    if words and words[0].startswith(("iptables", "ip6tables")):
        program = words.pop(0)
        family = AF_INET6 if program.startswith("ip6") else AF_INET
        backend = "legacy" if program.endswith("-legacy") else None
    verbs = {
        "-A",
        "--append",
        "-I",
        "--insert",
        "-D",
        "--delete",
        "-R",
        "--replace",
        "-P",
        "--policy",
        "-N",
        "-F",
        "-X",
    }
    rest = " ".join(words)
    if not any(w in verbs for w in words):
        table = ""
        if words[:1] in (["-t"], ["--table"]) and len(words) > 2:
            table, words = f"-t {words[1]} ", words[2:]
        if not words or words[0].startswith("-"):
            raise InputError(
                f"{option} {text!r}: the chain is missing",
                remedy=f"example: {option} '-t nat POSTROUTING -o eth0 -j MASQUERADE'",
            )
        rest = f"{table}{letter} {' '.join(words)}"
    return RuleEdit(host, rest, family, backend)


__all__ = [
    "ConntrackDelete", "ConntrackFlush", "Edit", "PolicyRuleEdit", "RouteEdit", "RuleEdit", "SetSysctl", "Without", "apply_all",
    "parse_edits",
]  # fmt: skip
