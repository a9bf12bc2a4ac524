"""One or several namespaces into a snapshot directory or archive, private (0600) from the first byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...sim.errors import InputError, MissingFacility
from .. import scratch as scratches
from ..lab.netns import RUN_NETNS, inside
from .dump import sysctl_lines, write_dumps
from .protocols import protocols
from .wires import segments

__all__ = ["Report", "capture", "sysctl_lines"]


@dataclass(slots=True)
class Report:
    """What was written. ``unread``: what could not be read, and why, by host."""

    target: Path
    hosts: list[str] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def capture(target: Path, netns: list[str] | None = None, all_netns: bool = False, anonymize: bool = False,
            names: dict[str, str] | None = None) -> Report:  # fmt: skip
    """Write a snapshot to a directory, or a ``.tar``, ``.tar.gz``, ``.tgz`` or ``.zip``.

    ``netns``: names, PIDs or containers; None: this host. ``names``: netns → host name in the snapshot, where it
    shall differ. Raises InputError for a namespace that is not there or a target that exists.
    """
    begun = time.monotonic()
    target = Path(target)
    suffix = next((s for s in (".tar.gz", ".tgz", ".tar", ".zip") if target.name.endswith(s)), None)
    if suffix is None and target.is_dir() and any(target.iterdir()):
        raise InputError(f"{target} exists and is not empty", remedy="name a new directory, or remove it")
    if suffix is not None and target.exists():
        raise InputError(f"{target} exists", remedy="name another file, or remove it")
    places = _places(netns, all_netns)
    report = Report(target)
    if suffix is None:
        _private(target)
        _fill(target, places, names or {}, netns is None and not all_netns, report)
        if anonymize:
            _anonymize(target, report)
    else:
        with tempfile.TemporaryDirectory(prefix=scratches.prefix()) as scratch:
            home = Path(scratch) / "snapshot"
            _private(home)
            _fill(home, places, names or {}, netns is None and not all_netns, report)
            if anonymize:
                _anonymize(home, report)
            _pack(home, target, suffix)
    report.seconds = time.monotonic() - begun
    return report


def _private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _anonymize(home: Path, report: Report) -> None:
    from .anonymize import anonymize

    report.notes += anonymize(home)
    report.hosts = sorted(p.name for p in home.iterdir() if p.is_dir()) or report.hosts


# -------------------------------------------------------------------------------------------- namespaces


def _places(netns: list[str] | None, everything: bool) -> dict[str, str | None]:
    """Host name → path of the namespace (None: the one we are in)."""
    if everything:
        return _all_places()
    if netns is None:
        return {os.uname().nodename: None}
    return {name: _find(name) for name in netns}


def _find(name: str) -> str:
    """A namespace by ``ip netns`` name, PID, or container."""
    if (RUN_NETNS / name).exists():
        return str(RUN_NETNS / name)
    if name.isdigit():
        path = f"/proc/{name}/ns/net"
        if os.path.exists(path):
            return path
        raise InputError(f"no process {name}")
    for tool in ("docker", "podman"):
        if shutil.which(tool):
            words = [tool, "inspect", "--format", "{{.State.Pid}}", "--", name]
            run = subprocess.run(words, capture_output=True, text=True, check=False)
            if run.returncode == 0 and run.stdout.strip() not in ("", "0"):
                return f"/proc/{run.stdout.strip()}/ns/net"
    known = ", ".join(sorted(os.listdir(RUN_NETNS))) if RUN_NETNS.is_dir() else "none"
    raise InputError(f"no namespace, process or container called {name!r}", remedy=f"namespaces: {known}")


def _all_places() -> dict[str, str | None]:
    """Every namespace with a name or a process, each once: named as ``ip netns`` does, else ``net-INODE``."""
    mine = os.stat("/proc/self/ns/net").st_ino
    out: dict[str, str | None] = {os.uname().nodename: None}
    seen = {mine}
    if RUN_NETNS.is_dir():
        for name in sorted(os.listdir(RUN_NETNS)):
            try:
                inode = os.stat(RUN_NETNS / name).st_ino
            except OSError:
                continue
            if inode not in seen:
                seen.add(inode)
                out[name] = str(RUN_NETNS / name)
    containers = _containers()
    for entry in sorted((e for e in os.listdir("/proc") if e.isdigit()), key=int):
        try:
            inode = os.stat(f"/proc/{entry}/ns/net").st_ino
        except OSError:
            continue  # gone, or not ours to see
        if inode not in seen:
            seen.add(inode)
            out[containers.get(int(entry), f"net-{inode}")] = f"/proc/{entry}/ns/net"
    return out


def _containers() -> dict[int, str]:
    out: dict[int, str] = {}
    for tool in ("docker", "podman"):
        if not shutil.which(tool):
            continue
        ids = subprocess.run([tool, "ps", "-q"], capture_output=True, text=True, check=False).stdout.split()
        if not ids:
            continue
        words = [tool, "inspect", "--format", "{{.State.Pid}} {{.Name}}", *ids]
        for line in subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines():
            pid, _, name = line.partition(" ")
            if pid.isdigit() and int(pid):
                out[int(pid)] = name.lstrip("/")
    return out


# --------------------------------------------------------------------------------------------- writing


def _fill(home: Path, places: dict[str, str | None], names: dict[str, str], flat: bool, report: Report) -> None:
    links: dict[str, list[dict[str, Any]]] = {}
    paths: dict[str, str | None] = {}
    for place, path in places.items():
        name = names.get(place, place)
        folder = home if flat else home / _safe(name)
        _private(folder)
        unread: list[str] = []
        try:
            write_dumps(folder, path, unread)
        except PermissionError as error:
            raise MissingFacility(
                f"{place}: {error.strerror}", remedy="other namespaces are root's: use sudo"
            ) from None
        _meta(folder, name, place if path is not None else None, bound_queues(path))
        report.hosts.append(name)
        if unread:
            report.unread[name] = unread
        links[name] = _links(folder)
        paths[name] = path
    if not flat:
        _index(home, links, paths, report)


def _safe(name: str) -> str:
    """A host's folder: its name, kept inside the snapshot."""
    return name.replace("/", "_").lstrip(".") or "host"


def _links(folder: Path) -> list[dict[str, Any]]:
    try:
        return [x for x in json.loads((folder / "link.json").read_text() or "[]") if x.get("ifname")]
    except (OSError, ValueError):
        return []


def _index(home: Path, links: dict[str, list[dict[str, Any]]], paths: dict[str, str | None], report: Report) -> None:
    wanted = set(links)
    wires, ways = dict(links), dict(paths)
    if any("link_netnsid" in x for rows in links.values() for x in rows):
        for name, path in _other_wires(set(filter(None, paths.values()))).items():
            ways[name] = path
            wires[name] = _links_in(path)
    found = segments(wires, ways, wanted)
    content = {"format": 1, "hosts": [_safe(h) for h in report.hosts], "segments": found}
    _write_text(home / "snapshot.json", json.dumps(content, indent=1) + "\n")


def _other_wires(known: set[str]) -> dict[str, str]:
    """Named namespaces that are not captured: a bridge in one of them may join two that are."""
    inodes = set()
    for path in known:
        try:
            inodes.add(os.stat(path).st_ino)
        except OSError:
            continue
    out = {}
    for name in sorted(os.listdir(RUN_NETNS)) if RUN_NETNS.is_dir() else ():
        path = str(RUN_NETNS / name)
        try:
            if os.stat(path).st_ino not in inodes:
                out[f"\0{name}"] = path
        except OSError:
            continue
    return out


def _links_in(path: str) -> list[dict[str, Any]]:
    from ..lab.netns import inside

    try:
        with inside(path):
            run = subprocess.run(["ip", "-j", "-d", "link"], capture_output=True, text=True, check=False)
        return [x for x in json.loads(run.stdout or "[]") if x.get("ifname")]
    except (OSError, ValueError):
        return []


def bound_queues(path: str | None) -> list[int] | None:
    """The nfqueues that a program has bound in a namespace (net/netfilter/nfnetlink_queue.c seq_show()); None: not to be read."""
    try:
        with inside(path):
            lines = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text().splitlines()
    except FileNotFoundError:  # the module is not there, and so nobody can have bound one
        return []
    except OSError:
        return None
    return sorted(int(line.split()[0]) for line in lines if line.strip())


def _meta(folder: Path, name: str, netns: str | None, queues: list[int] | None) -> None:
    from nattrace import __version__

    data: dict[str, Any] = {
        "hostname": os.uname().nodename,
        "netns": name if netns is not None else None,
        "kernel": os.uname().release,
        "captured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "tool": f"nattrace {__version__}",
        "cpus": os.cpu_count(),
    }
    if queues is not None:
        data["queues"] = queues
    loaded = protocols()
    if loaded is not None:
        data["protocols"] = loaded
    _write_text(folder / "meta.json", json.dumps(data, indent=1) + "\n")


def _write_text(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _pack(home: Path, target: Path, suffix: str) -> None:
    with open(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        if suffix == ".zip":
            import zipfile

            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(home.rglob("*")):
                    archive.write(path, path.relative_to(home))
            return
        import tarfile

        with tarfile.open(fileobj=out, mode="w" if suffix == ".tar" else "w:gz") as bundle:
            for path in sorted(home.iterdir()):
                bundle.add(path, path.name)
