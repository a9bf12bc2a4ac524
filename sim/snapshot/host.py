"""One host: each of its dumps through the module that reads it, put together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..model.addr import AF_INET, AF_INET6
from ..model.where import Where
from ..model.world import Host
from .problems import Problems, excerpt

if TYPE_CHECKING:
    from .iproute import Addresses, Entries
    from .load import Reader

SAVES = (  # kind of dump, family, slot of the rule set
    ("iptables-save", AF_INET, "iptables"),
    ("iptables-legacy-save", AF_INET, "legacy"),
    ("ip6tables-save", AF_INET6, "iptables"),
    ("ip6tables-legacy-save", AF_INET6, "legacy"),
)
_INCOMPATIBLE = re.compile(r"# Table [`'](\w+)' is incompatible")


class HostReader:
    """Reads the files (kind → name) of one host."""

    def __init__(self, reader: Reader, name: str, files: dict[str, str], named: bool) -> None:
        self.reader = reader
        self.problems: Problems = reader.problems
        self.name = name
        self.files = files
        self.named = named  # a folder's name is the host's name; else meta.json may know a better one
        self.got: dict[str, Any] = {}
        self.saved: dict[str, frozenset[str]] = {}  # kind of a save file → names of its tables
        self.unmodelled: list[tuple[str, Where | None]] = []

    def read(self) -> Host:
        """The host. Order matters: users before rules, nexthop objects before routes, links before what names them."""
        self._meta()
        self._plain()
        self._network()
        self._rules()
        self._nft()
        self._seen()
        self._missing()
        return Host(
            name=self.name,
            files=frozenset(self.files),
            file_of=dict(self.files),
            unmodelled=tuple(self.unmodelled),
            **self.got,
        )

    # ── access to files ──────────────────────────────────────────────────────────────────────────────

    def text(self, kind: str, shortest: int = 2) -> tuple[str, str] | None:
        """(text, file name) of a dump, or None: absent or unreadable."""
        file = self.files.get(kind)
        if file is None:
            return None
        text = self.reader.text(file, shortest)
        return None if text is None else (text, file)

    def entries(self, kind: str, family: int = AF_INET) -> Entries | None:
        """Objects of an iproute2 dump in either form; a file given by name alone is told by its first character."""
        file = self.files.get(kind)
        if file is None:
            return None
        if not file.endswith(".json"):
            text = self.reader.text(file)
            if text is None:
                return None
            if file.endswith(".txt") or text.lstrip()[:1] not in ("[", "{"):
                from .iproute_text import read_plain

                return read_plain(kind, text, file, family, self.problems)
        data = self.reader.json(file)
        if data is None:
            return None
        from .iproute import entries_of

        return entries_of(data, file, self.problems, family)

    # ── dumps ────────────────────────────────────────────────────────────────────────────────────────

    def _meta(self) -> None:
        if "meta" not in self.files:
            return
        file = self.files["meta"]
        meta = self.reader.json(file)
        if meta is None:
            return
        if not isinstance(meta, dict):
            self.problems.error(f"expected an object, got {type(meta).__name__}", file, 1)
            return
        self.got["meta"] = meta
        kernel = meta.get("kernel")
        if isinstance(kernel, str) and (found := re.match(r"(\d{1,3})\.(\d{1,4})", kernel)):
            self.got["kernel"] = (int(found[1]), int(found[2]))
        elif kernel is not None:
            self.problems.error(f"kernel: expected a release such as 6.1.0, got {excerpt(kernel)}", file, 1)
        captured = captured_at(meta.get("captured_at"))
        if captured is not None:
            self.got["captured_at"] = captured
        elif meta.get("captured_at") is not None:
            self.problems.error(f"captured_at: expected a time, got {excerpt(meta['captured_at'])}", file, 1)
        name = meta.get("netns") or meta.get("hostname")
        if not self.named and isinstance(name, str) and name.isprintable() and "/" not in name and len(name) < 256:
            self.name = name

    def _plain(self) -> None:
        """Dumps of one file and one reader each."""
        if found := self.text("sysctl"):
            from .sysctl import read_sysctl

            self.got["sysctl"] = read_sysctl(*found, self.problems)
        for kind, field in (("passwd", "users"), ("group", "groups")):
            if found := self.text(kind):
                from .users import read_ids

                self.got[field] = read_ids(*found, self.problems)
        if found := self.text("hosts"):
            from .users import read_hosts

            self.got["names"] = read_hosts(*found, self.problems)
        if found := self.text("ipset"):
            from .ipset import read_ipset

            self.got["sets"] = read_ipset(*found, self.problems)
        if found := self.text("sockets"):
            from .sockets import read_sockets

            self.got["sockets"] = read_sockets(*found, self.problems)
        self._conntrack()

    def _conntrack(self) -> None:
        if found := self.text("conntrack"):
            from .conntrack import read_conntrack

            tables = read_conntrack(*found, self.problems)
            self.got["conns"] = tables[None] + tables.get(self.name, ())
            if others := [name for name in tables if name not in (None, self.name)]:
                self.problems.note(f"{found[1]}: entries of {', '.join(map(str, others[:5]))} are not this host's")
        if found := self.text("expect"):
            from .expect import read_expect

            self.got["expectations"] = read_expect(*found, self.problems, self.got.get("conns", ()))

    def _network(self) -> None:
        if not self.files.keys() & NETWORK:
            return
        from . import iproute
        from .words import TableNames

        tables = TableNames()
        links, addresses = self.entries("link"), self.entries("addr")
        both = links if links is not None else addresses
        if both is not None:
            self.got["links"] = iproute.read_links(both, self.problems)
            from .misc import read_vlan_filtering

            self.unmodelled += read_vlan_filtering(both.items, both.file)
        found: Addresses | None = None
        if addresses is not None:
            found = iproute.read_addresses(addresses, self.problems)
            self.got["addresses"] = found.all
        neighbours = [
            neighbour
            for kind, proxy in (("neigh", False), ("neigh-proxy", True))
            if (entries := self.entries(kind)) is not None
            for neighbour in iproute.read_neighbours(entries, self.problems, proxy)
        ]
        if neighbours:
            self.got["neighbours"] = tuple(neighbours)
        if (entries := self.entries("nexthop")) is not None:
            self.got["nexthops"] = iproute.read_nexthops(entries, self.problems)
        self._routes(tables, found)
        self._policy(tables)
        if tables.invented:
            self.got["meta"] = {
                **self.got.get("meta", {}),
                "table_names": {n: t for t, n in tables.invented.items()},
            }

    def _routes(self, tables: Any, addresses: Addresses | None) -> None:
        from .iproute import RouteReader

        reader = RouteReader(tables, self.got.get("nexthops", {}))
        routes: dict[tuple[int, int], tuple[Any, ...]] = {}
        present = False
        for kind, family in (("route", AF_INET), ("route6", AF_INET6)):
            if (entries := self.entries(kind, family)) is not None:
                present = True
                for key, some in reader.read(entries, self.problems).items():
                    routes[key] = routes.get(key, ()) + some
        self.unmodelled += reader.odd
        for nhid, text, where in reader.lost:
            file = self.files.get("nexthop", "nexthop.json")
            self.problems.note(f"{where}: {text} leads nowhere: nexthop object {nhid} is not in {file}")
        if addresses is not None:
            from .local_routes import complete

            routes, notes = complete(routes, self.files.keys(), addresses, self.got.get("links", {}))
            for note in notes:
                self.problems.note(f"{self.name}: {note}")
        if routes or present:
            self.got["routes"] = routes

    def _policy(self, tables: Any) -> None:
        from .iproute import RuleReader

        reader = RuleReader(tables)
        rules = {
            family: reader.read(entries, self.problems)
            for kind, family in (("rule", AF_INET), ("rule6", AF_INET6))
            if (entries := self.entries(kind, family)) is not None
        }
        self.unmodelled += reader.odd
        if rules:
            self.got["rules"] = rules

    def _rules(self) -> None:
        tables: list[Any] = []
        for kind, family, backend in SAVES:
            if not (found := self.text(kind, shortest=len("-A X\n"))):
                continue
            from ..rules.iptables import parse_save

            text, file = found
            for name in _incompatible(text):
                self.problems.note(f"{file}: table {name} holds native nftables rules, which iptables-save can't print")
            try:
                read = parse_save(
                    text,
                    file=file,
                    family=family,
                    backend=_backend(text, backend),
                    users=self.got.get("users", {}),
                    groups=self.got.get("groups", {}),
                    strict=self.reader.strict,
                )
            except InputError as error:
                self.problems.add(error)
                continue
            tables += read
            self.saved[kind] = frozenset(table.name for table in read)
        if tables:
            self.got["tables"] = tuple(tables)

    def _nft(self) -> None:
        file = self.files.get("nft")
        if file is None:
            return
        from . import nft

        text = self.reader.text(file) if not file.endswith(".json") else None
        if file.endswith(".json") or (text is not None and text.lstrip()[:1] == "{"):
            data = self.reader.json(file)
            if data is None:
                return
            ruleset = nft.read_json(data or {"nftables": []}, file, self.problems)
        elif text is not None:
            ruleset = nft.read_text(text, file, self.problems)
        else:
            return
        found = nft.native(ruleset, {family: self.saved.get(kind) for family, kind in nft.SAVE_FILE.items()})
        if found.foreign:
            self.got["foreign"] = found.foreign
        self.unmodelled += found.unmodelled
        if any(nft.OBSERVER.fullmatch(chain.table) for chain in ruleset.chains):
            self.problems.note(f"{file}: tables of a nattrace that was tracing meanwhile are left out")

    def _seen(self) -> None:
        """Dumps that are only looked at: what they hold is named in the answer."""
        if found := self.text("tc"):
            from .misc import read_tc

            self.unmodelled += read_tc(*found, self.problems)
        if found := self.text("xfrm"):
            from .misc import read_xfrm

            self.unmodelled += read_xfrm(*found, self.problems)
        for kind in ("fdb", "vlan"):
            if self.files.get(kind, "").endswith(".json"):
                self.entries(kind)  # only that it is what its name says
        if any(link.xdp for link in self.got.get("links", {}).values()):
            from .misc import read_xdp

            self.unmodelled += read_xdp(self.got["links"])

    def _missing(self) -> None:
        """Say what the kernel's default stands in for (sysctls, sockets and sets say it when they are asked for)."""
        for kinds, text in MISSING:
            if not self.files.keys() & set(kinds):
                self.problems.note(f"{self.name}: no {kinds[0]}.{'json' if kinds[0] == 'rule' else 'txt'}: {text}")


MISSING = (  # kinds of dump that tell the same, what is taken for granted without them
    (("iptables-save", "iptables-legacy-save", "nft"), "no table is taken to be there"),
    (("conntrack",), "no connection is taken to exist before this packet"),
    (("rule",), "the policy rules are those of the kernel: local, main, default"),
)
NETWORK = frozenset((
    "link", "addr", "neigh", "neigh-proxy", "route", "route6", "rule", "rule6", "nexthop",
))  # fmt: skip


_GENERATED = re.compile(r"(?m)^# Generated by ip6?tables\S*-save v(\d+)\.(\d+)\S*( \(nf_tables\))?")


def _backend(text: str, backend: str) -> str:
    """``iptables-save.txt`` may be of either backend: since 1.8 its first line names nf_tables, or is of the other one."""
    found = _GENERATED.search(text[:4096]) if backend == "iptables" else None
    old = found is not None and (int(found[1]), int(found[2])) < (1, 8)
    return backend if found is None or old or found[3] else "legacy"


def _incompatible(text: str) -> Iterator[str]:
    """Tables that iptables-nft-save says it can't print. Comments are few: a regular expression would look everywhere."""
    place = text.find("#")
    while place >= 0:
        found = _INCOMPATIBLE.match(text, place)
        if found is not None and text[place - 1 : place] in ("", "\n"):
            yield found[1]
        place = text.find("#", place + 1)


def captured_at(value: Any) -> float | None:
    """Seconds since the epoch, from a number or an ISO 8601 time (UTC where it names no zone)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if 0 <= value < 1 << 40 else None
    if not isinstance(value, str):
        return None
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
