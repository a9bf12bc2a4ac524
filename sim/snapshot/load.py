"""``load_world``: a snapshot, or single dumps, as a World. Modules of a dump are imported when its file is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError, SnapshotError
from ..model.where import Where
from ..model.world import Host, Port, Segment, World
from .problems import Problems, excerpt
from .source import REMEDY_SIZE, Source, open_source, printable, single_file

if TYPE_CHECKING:
    from pathlib import Path

    from .source import Bytes

    BUNDLED: Path

MOST_LINES, MOST_VALUES = 4_000_000, 16_000_000  # of one file; each becomes an object many times its size
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
TEXT_ONLY = frozenset((
    "iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save", "ipset", "tc", "xfrm",
    "sysctl", "conntrack", "expect", "sockets", "passwd", "group", "hosts",
))  # fmt: skip
BOTH_FORMS = frozenset((
    "nft", "link", "addr", "neigh", "neigh-proxy", "route", "route6", "rule", "rule6", "nexthop", "fdb", "vlan",
))  # fmt: skip
KINDS = TEXT_ONLY | BOTH_FORMS | {"meta"}


def __getattr__(name: str) -> Any:
    if name == "BUNDLED":  # made when it is asked for: a single dump needs no pathlib, which costs 2 ms
        return _bundle()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _bundle() -> Path:
    """The folder of the snapshots that come with the program."""
    from pathlib import Path

    return Path(__file__).resolve().parent.parent / "snapshots"


def bundled_names() -> list[str]:
    """Names of the snapshots that come with the program."""
    folder = _bundle()
    if not folder.is_dir():
        return []
    return sorted(
        {_stem(p.name) for p in folder.iterdir() if p.is_dir() or p.name.endswith(ARCHIVES)} - {"__pycache__"}
    )


def bundled(name: str) -> Path | None:
    """The bundled snapshot of a name, or None."""
    if not name or "/" in name or name.startswith("."):
        return None
    folder = _bundle()
    return next((p for suffix in ("", *ARCHIVES) if (p := folder / f"{name}{suffix}").exists()), None)


def _stem(name: str) -> str:
    return next((name[: -len(s)] for s in (".tar.gz", ".tgz", ".tar", ".zip") if name.endswith(s)), name)


def kind_of(file: str) -> str | None:
    """Which dump a file name stands for; None: not part of a snapshot."""
    stem, _, form = file.rpartition(".")
    if form == "json":
        return stem if stem in BOTH_FORMS or stem == "meta" else None
    return stem if form == "txt" and stem in TEXT_ONLY | BOTH_FORMS else None


def load_world(
    path: str | Path | None, *, strict: bool = False, single_files: Mapping[str, str | Path] | None = None
) -> World:
    """The World of a snapshot directory or archive, of a bundled snapshot, of single dumps (kind → file), or both.

    :raises InputError: with every error of every file (an ErrorList where there are several).
    """
    problems = Problems()
    singles = dict(single_files or {})
    for kind in singles:
        if kind not in KINDS:
            raise SnapshotError(f"unknown kind of dump {excerpt(kind)}", None, f"known: {', '.join(sorted(KINDS))}")
    if path is None or (path == "" and singles):
        world = _world_of(None, singles, problems, strict)
    else:
        found = _find(path)
        source = open_source(found)
        for refused in source.refused:
            problems.add(refused)
        world = _world_of(source, singles, problems, strict)
    problems.finish()
    return world


def _find(path: str | Path) -> Path:
    from pathlib import Path

    found = Path(path)
    try:
        if str(path) and found.exists():
            return found
    except (OSError, ValueError):
        pass
    by_name = bundled(str(path))
    if by_name is not None:
        return by_name
    raise SnapshotError("no such snapshot", Where(printable(str(path)) or "''"), _hint(str(path)))


def _hint(name: str) -> str:
    """The bundled names that are nearest, or, in short, all."""
    from difflib import get_close_matches

    known = bundled_names()
    near = (
        get_close_matches(name, known, n=3, cutoff=0.55) or [k for k in known if name and k.startswith(name[:60])][:3]
    )
    if near:
        return f"did you mean {' or '.join(near)}?"
    families = dict.fromkeys(k.partition(".")[0] for k in known)
    return f"a directory, an archive, or a bundled one: {', '.join(families) or 'none'}"


# ── the shape of a snapshot ──────────────────────────────────────────────────────────────────────────────


def _world_of(source: Source | None, singles: dict[str, Any], problems: Problems, strict: bool) -> World:
    names = source.names() if source is not None else []
    root = _root(names)
    inside = [name[len(root) :] for name in names if name.startswith(root)]
    reader = Reader(source, root, problems, strict)
    plan = reader.json("snapshot.json") if "snapshot.json" in inside else None
    wanted, segments = _plan(plan, problems)
    folders = sorted({name.partition("/")[0] for name in inside if _in_host_folder(name)})
    flat = any("/" not in name and kind_of(name) is not None for name in inside)
    hosts: dict[str, Host] = {}
    for name in _hosts(wanted, folders, flat, problems):
        prefix = f"{name}/" if name in folders and not (flat and len(wanted) < 2) else ""
        several = len(wanted) > 1 or (not flat and len(folders) > 1)
        host = _read_host(reader, name, prefix, inside, singles, shown=f"{name}/" if several else "")
        hosts[host.name] = host
    if not hosts:
        if source is not None and not singles:
            remedy = "expected iptables-save.txt, route.json, …; make one with: nattrace snapshot"
            problems.error("holds no file of a snapshot", source.name, None, remedy)
        host = _read_host(reader, "", "", [], singles, shown="")
        hosts[host.name] = host
    if singles and len(hosts) > 1:
        problems.add(
            SnapshotError(
                "single dumps go with a snapshot of one host only",
                None,
                "leave out -S, or name one host's directory",
            )
        )
    _check_segments(segments, hosts, problems)
    _ignored(inside, hosts, flat, problems)
    if len(hosts) > 1 and not segments:
        problems.note("no segments in snapshot.json: every interface is the edge of the known world")
    hosts = _shared_conntrack(reader, inside, hosts, flat)
    return World(hosts, segments, tuple(problems.notes), str(source.path) if source is not None else "")


def _in_host_folder(name: str) -> bool:
    folder, slash, file = name.partition("/")
    return bool(slash) and kind_of(file) is not None and _is_host_name(folder)


def _root(names: list[str]) -> str:
    """The folder that everything is in (``tar czf x.tgz x/``), unless it is itself the one host."""
    root = ""
    while True:
        rest = [name[len(root) :] for name in names if name.startswith(root)]
        tops = {name.partition("/")[0] for name in rest}
        if len(tops) != 1 or "/" not in rest[0]:
            return root
        inner = root + tops.pop() + "/"
        deeper = [name[len(inner) :] for name in names]
        if "snapshot.json" not in deeper and any(kind_of(name) is not None for name in deeper):
            return root
        root = inner


def _plan(plan: Any, problems: Problems) -> tuple[list[str], tuple[Segment, ...]]:
    """Hosts and segments of snapshot.json."""
    file = "snapshot.json"
    if plan is None:
        return [], ()
    if not isinstance(plan, dict):
        problems.error('expected an object {"format": 1, "hosts": […], "segments": […]}', file, 1)
        return [], ()
    if plan.get("format", 1) != 1:
        problems.error(f"format {excerpt(plan['format'])} is not known", file, 1, "this version reads format 1")
    hosts = plan.get("hosts") or []
    if not isinstance(hosts, list) or not all(isinstance(h, str) and _is_host_name(h) for h in hosts):
        problems.error(f"hosts: expected a list of names, got {excerpt(hosts)}", file, 1)
        hosts = []
    if len(set(hosts)) != len(hosts):
        problems.error("hosts: a name appears twice", file, 1)
    segments = []
    listed = plan.get("segments") or []
    if not isinstance(listed, list):
        problems.error(f"segments: expected a list, got {excerpt(listed)}", file, 1)
        listed = []
    for position, item in enumerate(listed, 1):
        try:
            segments.append(_segment(item))
        except ValueError as error:
            problems.error(f"segment {position}: {error}", file, 1)
    return list(dict.fromkeys(hosts)), tuple(segments)


def _is_host_name(name: str) -> bool:
    return bool(name) and "/" not in name and name not in (".", "..") and name.isprintable() and len(name) < 256


def _segment(item: Any) -> Segment:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ValueError('expected {"name": …, "members": ["host:interface", …]}')
    members = item.get("members") or []
    if not isinstance(members, list):
        raise ValueError(f"members: expected a list, got {excerpt(members)}")
    ports = []
    for member in members:
        host, _, dev = member.partition(":") if isinstance(member, str) else ("", "", "")
        if not host or not dev:
            raise ValueError(f"members: expected host:interface, got {excerpt(member)}")
        ports.append(Port(host, dev))
    return Segment(item["name"], tuple(ports))


def _hosts(wanted: list[str], folders: list[str], flat: bool, problems: Problems) -> list[str]:
    """Names of the hosts to read; one flat host without a name yet is ""."""
    if not wanted:
        return [""] if flat else folders
    if flat and len(wanted) == 1 and wanted[0] not in folders:
        return wanted
    for name in wanted:
        if name not in folders:
            problems.error(f"host {excerpt(name)} has no folder of its name", "snapshot.json", 1)
    return [name for name in wanted if name in folders]


def _check_segments(segments: tuple[Segment, ...], hosts: dict[str, Host], problems: Problems) -> None:
    seen: dict[Port, str] = {}
    for segment in segments:
        for port in segment.members:
            host = hosts.get(port.host)
            if host is None:
                problems.error(f"segment {segment.name}: there is no host {excerpt(port.host)}", "snapshot.json", 1)
            elif host.links and port.dev not in host.links:
                text = f"segment {segment.name}: {port.host} has no interface {excerpt(port.dev)}"
                problems.error(text, "snapshot.json", 1, f"it has: {', '.join(list(host.links)[:12])}")
            if port in seen:
                problems.error(f"{port} is in the segments {seen[port]} and {segment.name}", "snapshot.json", 1)
            seen[port] = segment.name


def _ignored(inside: list[str], hosts: dict[str, Host], flat: bool, problems: Problems) -> None:
    """One note for the files that nobody asked for."""
    strange = []
    for name in inside:
        folder, slash, file = name.rpartition("/")
        used = kind_of(file) is not None and ((folder in hosts) if slash else flat)
        if not used and name not in ("snapshot.json", "conntrack.txt") and not file.startswith("."):
            strange.append(printable(name))
    if strange:
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        problems.note(f"ignored, not a file of a snapshot: {', '.join(strange[:5])}{more}")


def _shared_conntrack(reader: Reader, inside: list[str], hosts: dict[str, Host], flat: bool) -> dict[str, Host]:
    """A conntrack.txt at the top of several hosts: what --conntrack-out wrote, with ``# host NAME`` lines."""
    if (flat and len(hosts) == 1) or "conntrack.txt" not in inside:
        return hosts
    from .conntrack import read_conntrack

    tables = read_conntrack(reader.text("conntrack.txt") or "", "conntrack.txt", reader.problems)
    for name, conns in tables.items():
        if name in hosts:
            host = hosts[name]
            hosts[name] = host.with_(
                conns=conns,
                files=host.files | {"conntrack"},
                file_of={**host.file_of, "conntrack": "conntrack.txt"},
            )
        elif conns or name is not None:
            reader.problems.error(f"there is no host {excerpt(name)}", "conntrack.txt", None)
    return hosts


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────


class Reader:
    """Files as text or JSON; what is wrong with them goes to ``problems`` and None comes back."""

    def __init__(self, source: Source | None, root: str, problems: Problems, strict: bool) -> None:
        self.source = source
        self.root = root
        self.problems = problems
        self.strict = strict
        self.singles: dict[str, str] = {}

    def bytes(self, name: str) -> Bytes | None:
        try:
            if name in self.singles:
                return single_file(self.singles[name])
            assert self.source is not None
            return self.source.read(self.root + name)
        except SnapshotError as error:
            self.problems.add(SnapshotError(error.message, Where(name), error.remedy))
            return None

    def text(self, name: str, shortest: int = 2) -> str | None:
        """Decoded text with ``\\n`` between the lines; ``shortest``: characters of a line that becomes an object."""
        data = self.bytes(name)
        if data is None:
            return None
        odd = ""
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # PowerShell's redirection writes UTF-16
            text = str(data, "utf-16", "replace")
        else:
            try:
                text = str(data, "utf-8")  # not utf-8-sig: that copies
            except UnicodeDecodeError as error:
                line = data[: error.start].count(b"\n") + 1
                odd = f"{name}:{line}: not UTF-8; the bytes in question are shown as �"
                text = str(data, "utf-8", "replace")
            if "\0" in text:
                self.problems.error("holds NUL bytes: not a text dump", name, text.count("\n", 0, text.index("\0")) + 1)
                return None
        if odd:
            self.problems.note(odd)
        if len(text) > MOST_LINES * shortest and text.count("\n") > MOST_LINES:
            self.problems.error(f"more than {MOST_LINES} lines", name, None, REMEDY_SIZE)
            return None
        text = text.removeprefix("\ufeff")
        return text.replace("\r\n", "\n") if "\r" in text else text

    def json(self, name: str) -> Any:
        """The JSON document of a file; an empty file is an empty list, as ``ip -j`` prints for nothing."""
        text = self.text(name)
        if text is None:
            return None
        import json

        if not text.strip():
            return []
        if len(text) > MOST_VALUES and sum(map(text.count, ",[{")) > MOST_VALUES:
            self.problems.error(f"more than {MOST_VALUES} values", name, None, REMEDY_SIZE)
            return None
        try:
            found = json.loads(text)
            if found is None:
                self.problems.error("holds nothing but null", name, 1)
            return found
        except json.JSONDecodeError as error:
            self.problems.error(f"not JSON: {error.msg} (column {error.colno})", name, error.lineno)
        except RecursionError:
            self.problems.error("not JSON that a tool prints: nested too deeply", name, 1)
        except ValueError as error:  # numbers of thousands of digits
            self.problems.error(f"not JSON that a tool prints: {str(error)[:100]}", name, 1)
        return None


def _read_host(
    reader: Reader, name: str, prefix: str, inside: list[str], singles: Mapping[str, Any], shown: str
) -> Host:
    """One host from the files under ``prefix`` (and single files, which win)."""
    from .host import HostReader

    files: dict[str, str] = {}  # kind → name inside the source
    for file in inside:
        folder, _, base = file.rpartition("/")
        kind = kind_of(base)
        if kind is None or folder != prefix.rstrip("/"):
            continue
        if kind in files:  # sorted: .json comes before .txt
            reader.problems.note(f"{file} is not read: {files[kind]} tells the same")
        else:
            files[kind] = file
    for kind, path in singles.items():
        label = printable(str(path))
        reader.singles[label] = os.fspath(path) or os.curdir
        files[kind] = label
    try:
        return HostReader(reader, name or _default_name(reader, prefix), files, named=bool(name)).read()
    except InputError as error:
        reader.problems.add(error)
        return Host(name or "host")


def _default_name(reader: Reader, prefix: str) -> str:
    if reader.source is None:
        return "host"
    if reader.root:
        return reader.root.rstrip("/").rpartition("/")[2]
    return printable(_stem(reader.source.name)) or "host"
