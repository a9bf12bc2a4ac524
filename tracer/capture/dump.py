"""The dumps of one namespace: which tools, when they may be called, and what they could not read.

Reading must change nothing. A tool is called only where the part of the kernel that it asks is there already
(asking would load it), and ``iptables-legacy-save`` only where a legacy table exists (asking registers it).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..lab.netns import inside

SYSCTL_ROOT = "/proc/sys/net"


@dataclass(frozen=True, slots=True)
class Dump:
    """``file`` made by ``words``. ``when``: a test made inside the namespace, None = always. ``empty``: what an
    unasked tool would have said (written when ``when`` says no), None = no file."""

    file: str
    words: tuple[str, ...]
    when: Callable[[], bool] | None = None
    empty: str | None = None
    needs_root: bool = False
    optional: bool = False


def module_present(name: str) -> bool:
    """Whether a part of the kernel is loaded or built in, found out without loading it."""
    if os.path.isdir(f"/sys/module/{name}"):
        return True
    try:
        with open("/proc/modules") as file:
            if any(line.split(" ", 1)[0] == name for line in file):
                return True
    except OSError:
        pass  # a kernel without modules: everything that exists is built in
    try:
        with open(f"/lib/modules/{os.uname().release}/modules.builtin") as file:
            return any(line.rstrip().endswith((f"/{name}.ko", f"/{name.replace('_', '-')}.ko")) for line in file)
    except OSError:
        return not os.path.exists("/proc/modules")


def _names(proc: str) -> list[str]:
    try:
        return Path(f"/proc/thread-self/net/{proc}").read_text().split()
    except OSError:
        return []


def legacy_tables() -> bool:
    """Whether a legacy IPv4 table exists here (listing an absent one would register it)."""
    return bool(_names("ip_tables_names"))


def legacy_tables6() -> bool:
    """The same for IPv6."""
    return bool(_names("ip6_tables_names"))


def _has_nf_tables() -> bool:
    return module_present("nf_tables")


def _has_conntrack() -> bool:
    """Entries exist: with none, the dump is empty, and asking could load nf_conntrack_netlink."""
    try:
        return Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text().strip() != "0"
    except OSError:
        return False


def _has_ipset() -> bool:
    return module_present("ip_set")


def nft_save(tool: str) -> str:
    """``iptables-nft-save`` where installed; elsewhere plain ``iptables-save`` is the only backend there is."""
    return f"{tool}-nft-save" if shutil.which(f"{tool}-nft-save") else f"{tool}-save"


def dumps() -> list[Dump]:
    """Every dump of the contract, in its order."""
    ip = ("ip", "-j")
    return [
        Dump("iptables-save.txt", (nft_save("iptables"), "-c"), _has_nf_tables, "", needs_root=True),
        Dump("ip6tables-save.txt", (nft_save("ip6tables"), "-c"), _has_nf_tables, "", needs_root=True),
        Dump("iptables-legacy-save.txt", ("iptables-legacy-save", "-c"), legacy_tables, needs_root=True),
        Dump("ip6tables-legacy-save.txt", ("ip6tables-legacy-save", "-c"), legacy_tables6, needs_root=True),
        Dump("nft.json", ("nft", "-j", "-a", "list", "ruleset"), _has_nf_tables, needs_root=True, optional=True),
        Dump("ipset.txt", ("ipset", "save"), _has_ipset, "", needs_root=True, optional=True),
        Dump("link.json", (*ip, "-d", "link")),
        Dump("addr.json", (*ip, "-d", "addr")),
        Dump("neigh.json", (*ip, "neigh")),
        Dump("neigh-proxy.json", (*ip, "neigh", "show", "proxy")),
        Dump("route.json", (*ip, "-d", "-4", "route", "show", "table", "all")),
        Dump("route6.json", (*ip, "-d", "-6", "route", "show", "table", "all")),
        Dump("rule.json", (*ip, "-4", "rule")),
        Dump("rule6.json", (*ip, "-6", "rule")),
        Dump("nexthop.json", (*ip, "-d", "nexthop")),
        Dump("fdb.json", ("bridge", "-j", "fdb"), optional=True),
        Dump("vlan.json", ("bridge", "-j", "vlan"), optional=True),
        Dump("xfrm.txt", ("ip", "xfrm", "policy"), lambda: module_present("xfrm_user"), needs_root=True, optional=True),
        Dump("conntrack.txt", ("conntrack", "-L", "-o", "extended,id"), _has_conntrack, "", needs_root=True),
        Dump("expect.txt", ("conntrack", "-L", "expect"), _has_conntrack, "", needs_root=True, optional=True),
        Dump("sockets.txt", ("ss", "-H", "-a", "-n", "-e", "-p", "-t", "-u", "-w", "--inet-sockopt")),
    ]


FALLBACK = {  # a tool too old for an option: the nearest form that it knows
    "sockets.txt": ("ss", "-H", "-a", "-n", "-e", "-p", "-t", "-u", "-w"),
    "conntrack.txt": ("conntrack", "-L", "-o", "extended"),
    "nft.json": ("nft", "-j", "list", "ruleset"),
}
MACHINE_WIDE = [
    Dump("passwd.txt", ("getent", "passwd")),
    Dump("group.txt", ("getent", "group")),
    Dump("hosts.txt", ("getent", "hosts")),
]


@dataclass(slots=True)
class Started:
    """A running dump."""

    dump: Dump
    child: subprocess.Popen[bytes]
    path: Path


def write_dumps(home: Path, netns: str | None, unread: list[str]) -> None:
    """All dumps of a namespace (path, or None for this one) into a directory; complaints go to ``unread``."""
    started: list[Started] = []
    with inside(netns):
        for dump in [*dumps(), *MACHINE_WIDE]:
            path = home / dump.file
            if dump.when is not None and not dump.when():
                if dump.empty is not None:
                    _write(path, dump.empty.encode())
                continue
            child = _start(dump.words, path, dump, unread)
            if child is not None:
                started.append(Started(dump, child, path))
        _write(home / "sysctl.txt", "".join(sysctl_lines()).encode())
        for job in started:
            _finish(job, unread)
        _mend_nft(home, unread)
        _tc(home, unread)
    _settle_backends(home)


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _start(words: tuple[str, ...], path: Path, dump: Dump, unread: list[str]) -> subprocess.Popen[bytes] | None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        try:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE)
        except (FileNotFoundError, PermissionError):
            path.unlink()
            if not dump.optional:
                unread.append(f"{dump.file}: {words[0]} is not installed")
            return None


def _finish(job: Started, unread: list[str]) -> None:
    _, err = job.child.communicate()
    status = job.child.returncode
    if status and job.dump.file in FALLBACK:
        again = _start(FALLBACK[job.dump.file], job.path, job.dump, unread)
        if again is not None:
            _, err = again.communicate()
            status = again.returncode
    if status and job.dump.words[0] != "getent":  # getent says 2 for "nothing found"
        words = err.decode(errors="replace").strip().splitlines()
        job.path.unlink(missing_ok=True)
        root = " (root may read it)" if job.dump.needs_root and os.geteuid() else ""
        unread.append(f"{job.dump.file}: {words[-1] if words else f'status {status}'}{root}")


def _mend_nft(home: Path, unread: list[str]) -> None:
    """nft before 1.1.0 writes a broken document where a table has a flag, ``dormant`` or ``owner``; its text is whole."""
    path = home / "nft.json"
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        path.unlink()
        dump = Dump("nft.txt", ("nft", "-a", "list", "ruleset"), needs_root=True)
        child = _start(dump.words, home / dump.file, dump, unread)
        if child is not None:
            _finish(Started(dump, child, home / dump.file), unread)


def _settle_backends(home: Path) -> None:
    """``iptables-save.txt`` holds whichever backend has rules; the second file exists only when both have some."""
    for tool in ("iptables", "ip6tables"):
        main, legacy = home / f"{tool}-save.txt", home / f"{tool}-legacy-save.txt"
        if not legacy.exists():
            continue
        if not legacy.stat().st_size:
            legacy.unlink()
        elif not main.exists() or not main.stat().st_size:
            legacy.replace(main)


def _tc(home: Path, unread: list[str]) -> None:
    """Filters on the devices: seen, and named in the answer as not modelled."""
    if not shutil.which("tc"):
        return
    text = ""
    for name in sorted(os.listdir("/sys/class/net")) if _same_sysfs() else _devices(home):
        for words in (("ingress",), ("egress",), ()):
            run = subprocess.run(
                ["tc", "filter", "show", "dev", name, *words], capture_output=True, text=True, check=False
            )
            if run.returncode == 0 and run.stdout.strip():
                text += f"# dev {name} {' '.join(words)}\n{run.stdout}"
    if text:
        _write(home / "tc.txt", text.encode())


def _same_sysfs() -> bool:
    return False  # /sys shows the namespace it was mounted in, not the one entered


def _devices(home: Path) -> list[str]:
    """Devices whose qdisc can carry filters at all: asking each of a thousand would be slow."""
    try:
        links = json.loads((home / "link.json").read_text() or "[]")
    except (OSError, ValueError):
        return []
    run = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=False)
    with_filters = {
        line.split(" dev ", 1)[1].split()[0]
        for line in run.stdout.splitlines()
        if " dev " in line and line.split()[1] not in ("noqueue", "fq_codel", "pfifo_fast", "mq", "fq")
    }
    return [x["ifname"] for x in links if x.get("ifname") in with_filters]


def sysctl_lines(root: str = SYSCTL_ROOT) -> list[str]:
    """``sysctl -a`` of ``net.*`` in its own form; devices' dots as slashes, unreadable keys left out as it does."""
    out: list[str] = []
    for folder, dirs, files in os.walk(root):
        dirs.sort()
        prefix = _dotted(folder)
        for name in sorted(files):
            path = f"{folder}/{name}"
            try:
                if not os.stat(path).st_mode & 0o444:
                    continue  # write-only: a trigger such as route.flush
                with open(path) as file:
                    text = file.read()
            except (OSError, UnicodeDecodeError):
                continue
            for line in text.splitlines() or [""]:
                out.append(f"{prefix}.{name.replace('.', '/')} = {line}\n")
    return out


def _dotted(folder: str) -> str:
    return ".".join(part.replace(".", "/") for part in folder.removeprefix("/proc/sys/").split("/"))
