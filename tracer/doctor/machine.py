"""Python, tools, packages, and the parts of the kernel that capturing and the lab need: looked up, nothing is tried."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .finding import NO, UNKNOWN, YES, Finding

TOOLS = (
    ("iptables-save", "capturing rules", "apt-get install iptables"),
    ("iptables-legacy-save", "capturing rules of the legacy backend", "apt-get install iptables"),
    ("ip", "capturing links, addresses, routes, rules; lab", "apt-get install iproute2"),
    ("ss", "capturing sockets", "apt-get install iproute2"),
    ("sysctl", "capturing kernel settings", "apt-get install procps"),
    ("conntrack", "capturing the connection table", "apt-get install conntrack"),
    ("ipset", "capturing sets", "apt-get install ipset"),
    ("nft", "capturing native nftables rules", "apt-get install nftables"),
    (
        "tcpdump",
        "looking at interfaces while confirming an answer; pcap expressions of --filter",
        "apt-get install tcpdump",
    ),
    ("setpriv", "running with the least privileges", "apt-get install util-linux"),
)
PACKAGES = (
    ("click", "the command line", "pip install nattrace"),
    ("pandas", "DataFrames in notebooks", "pip install 'nattrace[notebook]'"),
    ("pyroute2", "live commands", "pip install 'nattrace[live]'"),
    ("scapy", "packets of trace --tap queue, --probe", "pip install 'nattrace[live]'"),
    ("numpy", "live commands: events of the probes", "apt-get install python3-numpy"),
)
MODULES = (
    ("nf_conntrack", "connection tracking", "/proc/sys/net/netfilter/nf_conntrack_max", "NF_CONNTRACK"),
    ("nf_tables", "iptables-nft and nftables", "", "NF_TABLES"),
    ("ip_tables", "iptables-legacy", "/proc/net/ip_tables_names", "IP_NF_IPTABLES"),
    ("ip_set", "ipset", "", "IP_SET"),
    ("veth", "lab: wires between namespaces", "", "VETH"),
    ("bridge", "lab: segments with more than two members", "/sys/module/bridge", "BRIDGE"),
    ("br_netfilter", "iptables on bridged packets", "/proc/sys/net/bridge/bridge-nf-call-iptables", "BRIDGE_NETFILTER"),
)


def machine() -> list[Finding]:
    """Everything that looking tells."""
    found = [_python(), _system(), _root()]
    found += [_tool(*tool) for tool in TOOLS]
    found += [_package(*package) for package in PACKAGES]
    if sys.platform.startswith("linux"):
        config = _config()
        found += [_module(*module, config) for module in MODULES]
        found += [_namespaces()]
    return found


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    state = YES if sys.version_info >= (3, 11) else NO
    return Finding("Python", "base", state, version, "everything", "Python 3.11 or newer")


def _system() -> Finding:
    if not sys.platform.startswith("linux"):
        return Finding(
            "Linux",
            "base",
            NO,
            sys.platform,
            "reading this host, lab",
            "snapshots of other hosts work here: nattrace why -S PATH",
        )
    return Finding("Linux", "base", YES, os.uname().release, "reading this host, lab")


def _root() -> Finding:
    if not hasattr(os, "geteuid"):
        return Finding("root", "base", UNKNOWN, "no such notion here", "capturing rules and connections, lab")
    state = YES if os.geteuid() == 0 else NO
    return Finding(
        "root", "base", state, f"uid {os.geteuid()}", "capturing rules and connections, lab", "sudo nattrace …"
    )


def _tool(name: str, use: str, get: str) -> Finding:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return Finding(name, "tool", YES if path else NO, path or "not found", use, get)


def _package(name: str, use: str, get: str) -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Finding(name, "package", YES, version(name), use, get)
    except PackageNotFoundError:
        return Finding(name, "package", NO, "not installed", use, get)


def _config() -> dict[str, str] | None:
    """The kernel's own build configuration (CONFIG_X → y or m); None where it is kept nowhere."""
    import gzip

    release = os.uname().release
    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{release}"), Path(f"/lib/modules/{release}/config")):
        try:
            text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        except (OSError, ValueError, EOFError):
            continue
        return dict(line.split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_") and "=" in line)
    return None


def _module(name: str, use: str, mark: str, option: str, config: dict[str, str] | None) -> Finding:
    if Path("/sys/module", name).exists() or (mark and Path(mark).exists()):
        return Finding(name, "kernel", YES, "loaded or built in", use)
    if config is not None:
        value = config.get(f"CONFIG_{option}", "n")
        if value == "y":
            return Finding(name, "kernel", YES, "built in", use)
        if value == "m":
            return Finding(name, "kernel", YES, "a module, not loaded now", use, f"modprobe {name}")
        return Finding(name, "kernel", NO, f"CONFIG_{option} is not set", use, f"a kernel with CONFIG_{option}")
    return Finding(
        name,
        "kernel",
        UNKNOWN,
        "not loaded, and the kernel's configuration is nowhere to read",
        use,
        f"modprobe {name}",
    )


def _namespaces() -> Finding:
    state = YES if Path("/proc/self/ns/net").exists() else NO
    return Finding(
        "network namespaces", "kernel", state, "/proc/self/ns/net", "lab, --netns", "a kernel with CONFIG_NET_NS"
    )
