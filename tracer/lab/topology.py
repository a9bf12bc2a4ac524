"""A topology as data: hosts, segments, and everything that is configured on a host.

Two sources make one: a short TOML file (:func:`from_toml`, documented in docs/lab.md), and a snapshot directory
(:mod:`.from_snapshot`). Building it is another module's business (:mod:`.build`).
"""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...sim.errors import ErrorList, InputError
from ...sim.model.addr import parse_addr
from ...sim.model.where import Where


@dataclass(frozen=True, slots=True)
class Interface:
    """One device of a host. ``addresses`` are words for ``ip addr add`` (without ``dev``), in order.

    ``kind``: "veth" (default), "bridge" (a bridge of the host itself; ``ports`` of the segment hang on it) or
    "loopback". ``ifindex`` 0: the next free one. ``up`` False leaves it down. ``arp`` False: ``arp off``.
    """

    name: str
    addresses: tuple[str, ...] = ()
    mac: str | None = None
    mtu: int | None = None
    ifindex: int = 0
    up: bool = True
    arp: bool = True
    kind: str = "veth"
    master: str | None = None


@dataclass(frozen=True, slots=True)
class HostSpec:
    """One host. ``routes``, ``rules``, ``nexthops``, ``neighbours`` are words for ``ip … add``.

    ``iptables``/``iptables_legacy``: texts for ``iptables-restore``; ``ipset`` for ``ipset restore``. ``rules`` None
    keeps the three default rules; otherwise they are the whole list. ``lenient``: what this kernel refuses becomes a
    note instead of an error (snapshots of other kernels).
    """

    name: str
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    replace_rules: bool = False
    replace_routes: bool = False
    nexthops: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    iptables: str = ""
    iptables_legacy: str = ""
    ipset: str = ""
    users: tuple[tuple[str, int], ...] = ()
    listen: tuple[str, ...] = ()
    lenient: bool = False

    def interface(self, name: str) -> Interface:
        """The device of that name. Raises KeyError."""
        for interface in self.interfaces:
            if interface.name == name:
                return interface
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class SegmentSpec:
    """One layer-2 network; members are (host, device)."""

    name: str
    members: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """Hosts and what connects them. An interface in no segment is an edge of the known world."""

    hosts: tuple[HostSpec, ...]
    segments: tuple[SegmentSpec, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def host(self, name: str) -> HostSpec:
        """The host of that name. Raises KeyError."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def segment_of(self, host: str, dev: str) -> SegmentSpec | None:
        """The segment an interface is in, or None for an edge."""
        return next((s for s in self.segments if (host, dev) in s.members), None)

    def edges(self) -> list[tuple[str, str]]:
        """(host, device) of every interface that leads out of the known world."""
        return [
            (host.name, i.name)
            for host in self.hosts
            for i in host.interfaces
            if i.kind == "veth" and i.master is None and self.segment_of(host.name, i.name) is None
        ]

    def with_host(self, host: HostSpec) -> Topology:
        """The same topology with one host replaced."""
        return replace(self, hosts=tuple(host if h.name == host.name else h for h in self.hosts))


# ------------------------------------------------------------------------------------------------ TOML

_HOST_KEYS = {
    "interfaces", "routes", "rules", "nexthops", "neighbours", "sysctl", "iptables", "iptables-legacy", "ipset", "users",
    "listen",
}  # fmt: skip
_INTERFACE_KEYS = {"addresses", "mac", "mtu", "up", "arp", "bridge"}


class _Reader:
    """Turns parsed TOML into a Topology, collecting every error with its path inside the file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.errors: list[InputError] = []

    def error(self, path: str, message: str, remedy: str | None = None) -> None:
        self.errors.append(InputError(f"{path}: {message}", Where(self.file), remedy))

    def strings(self, path: str, value: Any) -> tuple[str, ...]:
        """A string or a list of strings."""
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
        self.error(path, f"expected text or a list of texts, got {value!r}")
        return ()

    def table(self, path: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.error(path, f"expected a table, got {value!r}")
        return {}

    def known(self, path: str, table: dict[str, Any], keys: set[str]) -> None:
        for key in table:
            if key not in keys:
                self.error(f"{path}.{key}", "unknown key", f"known keys: {', '.join(sorted(keys))}")

    def address(self, path: str, text: str) -> None:
        words = text.split()
        try:
            parse_addr(words[0].partition("/")[0])
        except (ValueError, OSError, IndexError):
            self.error(path, f"not an address: {text!r}", "write it as 10.0.0.1/24")

    def interface(self, path: str, name: str, value: Any) -> Interface:
        if isinstance(value, (str, list)):
            value = {"addresses": value}
        table = self.table(path, value)
        self.known(path, table, _INTERFACE_KEYS)
        if not 0 < len(name) <= 15 or "/" in name or any(c.isspace() for c in name):
            self.error(path, f"not an interface name: {name!r}", "at most 15 characters, no slash, no blank")
        addresses = self.strings(f"{path}.addresses", table.get("addresses", []))
        for address in addresses:
            self.address(f"{path}.addresses", address)
        mtu = table.get("mtu")
        if mtu is not None and not (isinstance(mtu, int) and 68 <= mtu <= 65535):
            self.error(f"{path}.mtu", f"expected 68 to 65535, got {mtu!r}")
            mtu = None
        kind = "loopback" if name == "lo" else "bridge" if table.get("bridge") else "veth"
        return Interface(
            name,
            addresses,
            table.get("mac"),
            mtu,
            up=bool(table.get("up", True)),
            arp=bool(table.get("arp", True)),
            kind=kind,
        )

    def sysctls(self, path: str, value: Any) -> tuple[tuple[str, str], ...]:
        out = []
        for key, setting in self.table(path, value).items():
            if isinstance(setting, dict):  # dotted keys without quotes nest
                out += [(f"{key}.{k}", v) for k, v in self.sysctls(f"{path}.{key}", setting)]
            else:
                out.append((key, str(int(setting)) if isinstance(setting, bool) else str(setting)))
        return tuple(out)

    def users(self, path: str, value: Any) -> tuple[tuple[str, int], ...]:
        out = []
        for name, uid in self.table(path, value).items():
            if isinstance(uid, int) and not isinstance(uid, bool) and 0 <= uid < 2**32:
                out.append((name, uid))
            else:
                self.error(f"{path}.{name}", f"expected a user id, got {uid!r}")
        return tuple(out)

    def rules_text(self, path: str, value: Any) -> str:
        """A save text as it is, or a list of ``iptables`` argument lists made into one."""
        lines = self.strings(path, value)
        if any(line.lstrip().startswith(("*", "#")) for line in lines):
            return "\n".join(lines) + "\n"
        return restore_text(lines)

    def host(self, name: str, value: Any) -> HostSpec:
        path = f"hosts.{name}"
        table = self.table(path, value)
        self.known(path, table, _HOST_KEYS)
        if not name or len(name) > 48 or "/" in name or any(c.isspace() for c in name):
            self.error(path, f"not a host name: {name!r}")
        interfaces = self.table(f"{path}.interfaces", table.get("interfaces", {}))
        return HostSpec(
            name,
            tuple(self.interface(f"{path}.interfaces.{n}", n, v) for n, v in interfaces.items()),
            routes=self.strings(f"{path}.routes", table.get("routes", [])),
            rules=self.strings(f"{path}.rules", table.get("rules", [])),
            nexthops=self.strings(f"{path}.nexthops", table.get("nexthops", [])),
            neighbours=self.strings(f"{path}.neighbours", table.get("neighbours", [])),
            sysctls=self.sysctls(f"{path}.sysctl", table.get("sysctl", {})),
            iptables=self.rules_text(f"{path}.iptables", table.get("iptables", [])),
            iptables_legacy=self.rules_text(f"{path}.iptables-legacy", table.get("iptables-legacy", [])),
            ipset="".join(f"{line}\n" for line in self.strings(f"{path}.ipset", table.get("ipset", []))),
            users=self.users(f"{path}.users", table.get("users", {})),
            listen=self.strings(f"{path}.listen", table.get("listen", [])),
        )

    def segment(self, name: str, value: Any, hosts: dict[str, HostSpec]) -> SegmentSpec:
        members = []
        for text in self.strings(f"segments.{name}", value):
            host, _, dev = text.partition(":")
            spec = hosts.get(host)
            if spec is None or all(i.name != dev for i in spec.interfaces):
                self.error(f"segments.{name}", f"no such interface: {text!r}", "members are written host:interface")
                continue
            members.append((host, dev))
        return SegmentSpec(name, tuple(members))


def from_toml(path: str | Path) -> Topology:
    """Read a topology file. Raises InputError (all errors at once) with the path of the key."""
    file = Path(path)
    try:
        data = tomllib.loads(file.read_text())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", Where(str(path))) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not TOML: {error}", Where(str(path)), "see docs/lab.md for a worked example") from None
    return from_data(data, str(path))


def from_data(data: dict[str, Any], file: str = "topology") -> Topology:
    """The parsed form of the TOML file. Raises InputError (all errors at once)."""
    reader = _Reader(file)
    reader.known("the file", data, {"hosts", "segments"})
    hosts = {name: reader.host(name, value) for name, value in reader.table("hosts", data.get("hosts", {})).items()}
    if not hosts:
        reader.error("hosts", "there is none", "a topology has at least one table [hosts.NAME]")
    segments = tuple(
        reader.segment(name, value, hosts) for name, value in reader.table("segments", data.get("segments", {})).items()
    )
    seen: dict[tuple[str, str], str] = {}
    for segment in segments:
        for member in segment.members:
            if member in seen:
                reader.error(
                    f"segments.{segment.name}", f"{member[0]}:{member[1]} is in segment {seen[member]} already"
                )
            seen[member] = segment.name
    if reader.errors:
        raise reader.errors[0] if len(reader.errors) == 1 else ErrorList(reader.errors)
    return Topology(tuple(hosts.values()), segments)


def restore_text(commands: tuple[str, ...] | list[str]) -> str:
    """``-t nat -A POSTROUTING …`` lines to a text for ``iptables-restore --noflush``, order kept.

    The words are a shell's (either quote); iptables-restore knows double quotes only. A leading ``iptables`` goes.
    """
    blocks: list[tuple[str, list[str]]] = []
    for command in commands:
        words = shlex.split(command)
        if words and words[0].startswith("iptables"):
            words = words[1:]
        table = "filter"
        for flag in ("-t", "--table"):
            if flag in words[:-1]:
                place = words.index(flag)
                table = words[place + 1]
                words = words[:place] + words[place + 2 :]
        if not blocks or blocks[-1][0] != table:
            blocks.append((table, []))
        blocks[-1][1].append(" ".join(map(_quoted, words)))
    return "".join(f"*{table}\n" + "".join(f"{line}\n" for line in lines) + "COMMIT\n" for table, lines in blocks)


def _quoted(word: str) -> str:
    if word and not any(c.isspace() or c in "\"'\\" for c in word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
