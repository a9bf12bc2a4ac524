"""Building a topology in network namespaces, and taking it down without residue.

Namespaces are called ``PREFIX-HOST``; two more hold what is no host: ``PREFIX-edge`` the far ends of the interfaces that
lead out of the known world, ``PREFIX-wire`` the bridges of segments with more than two members. Before the first one
is made, their names are written to a state file (``/run/nattrace/lab/PREFIX.json``); :func:`down` reads it, so it also
finds a lab whose maker was killed, and :func:`sweep` removes labs whose maker is gone and wanted none left behind.

    with build(topology, "demo") as lab:
        ...                                   # lab.netns("router"), lab.macs["router", "eth0"]
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ...sim.errors import InputError
from . import netns
from .from_snapshot import _route, _rule
from .topology import HostSpec, Interface, Topology

STATE = Path("/run/nattrace/lab")
READY_SECONDS = 5.0
EDGE, WIRE = "edge", "wire"


@dataclass(slots=True)
class Lab:
    """A built topology. ``macs``: (host, device) → hardware address; ``edge_ports``: (host, device) → name of the far
    end in the edge namespace; ``notes``: what this kernel refused (snapshots only) or was built otherwise."""

    topology: Topology
    prefix: str
    macs: dict[tuple[str, str], str] = field(default_factory=dict)
    edge_ports: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    stderr: dict[str, str] = field(default_factory=dict)

    def netns(self, host: str) -> str:
        """Name of the host's namespace."""
        return f"{self.prefix}-{host}"

    def run(self, host: str, *words: str, text: str | None = None, check: bool = True) -> str:
        """Run a tool on a host."""
        return netns.run(words, text, self.netns(host), check)

    def listen(self) -> None:
        """Open the hosts' listening sockets in this process, silent ones: a SYN to them is swallowed."""
        for host in self.topology.hosts:
            with netns.inside(netns.path_of(self.netns(host.name))):
                for text in host.listen:
                    self.sockets.append(silent_listener(text))

    def snapshot(self, target: Path) -> None:
        """Capture all hosts into a snapshot directory; a host's users replace the machine's own."""
        from ..capture import capture

        names = {self.netns(h.name): h.name for h in self.topology.hosts}
        capture(target, list(names), names=names)
        for host in self.topology.hosts:
            if host.users:
                lines = [f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in host.users]
                (target / host.name / "passwd.txt").write_text("".join(lines))
        if len(self.topology.segments) and not (target / "snapshot.json").exists():
            raise InputError("the capture found no segments")

    def down(self) -> None:
        """Close the sockets and remove every namespace."""
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()
        down(self.prefix)

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def silent_listener(text: str) -> socket.socket:
    """``udp 53``, ``udp 10.0.0.1:53``, ``tcp 80``, ``tcp 80 transparent``: a bound socket that never answers."""
    proto, _, place = text.partition(" ")
    place, _, option = place.strip().partition(" ")
    address, _, port = place.rpartition(":")
    kinds = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
    if proto not in kinds or not port.isdigit() or option not in ("", "transparent"):
        raise InputError(f"listen: not understood: {text!r}", remedy='write "udp 53" or "tcp 10.0.0.1:80"')
    sock = socket.socket(socket.AF_INET, kinds[proto])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND
    if option:
        sock.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT: what TPROXY looks for
    if proto == "tcp":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the same port may send from another socket
        swallow(sock, only_syn=True)
    sock.bind((address or "0.0.0.0", int(port)))
    if proto == "tcp":
        sock.listen(8)
    return sock


_ALL = ((0x06, 0, 0, 0),)  # BPF_RET | BPF_K: nothing is taken
_SYNS = (  # only a first SYN is thrown away; what belongs to no connection still gets its reset
    (0x30, 0, 0, 13),  # BPF_LD | BPF_B | BPF_ABS: the flags
    (0x54, 0, 0, 0x12),  # BPF_AND: SYN and ACK
    (0x15, 0, 1, 0x02),  # BPF_JEQ: SYN alone
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)


def swallow(sock: socket.socket, only_syn: bool = False) -> None:
    """A classic BPF filter (SO_ATTACH_FILTER) that throws segments away unseen by TCP: the socket never answers."""
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in (_SYNS if only_syn else _ALL))
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, 26, header)


def build(topology: Topology, prefix: str, keep: bool = False) -> Lab:
    """Make the namespaces. ``keep``: the lab outlives this process (``nattrace lab up``).

    Raises MissingFacility without root, InputError when a lab of that name exists, ToolFailed with a tool's words.
    """
    netns.need_root()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.]*", prefix):
        raise InputError(f"not a lab name: {prefix!r}", remedy="letters, digits, dot and underscore")
    if (STATE / f"{prefix}.json").exists() or any(n.startswith(f"{prefix}-") for n in _existing()):
        raise InputError(f"a lab called {prefix} exists", remedy=f"nattrace lab down {prefix}")
    lab = Lab(topology, prefix, notes=list(topology.notes))
    plan = _plan(topology, lab)
    _remember(prefix, plan.namespaces, keep)
    try:
        netns.run(["ip", "-batch", "-"], "".join(f"netns add {n}\n" for n in plan.namespaces))
        for host in topology.hosts:
            _early(host, lab)
        _infrastructure(plan, lab)
        netns.run(["ip", "-batch", "-"], "".join(plan.links))
        for place, lines in plan.inside.items():
            netns.run(["ip", "-batch", "-"], "".join(lines), f"{prefix}-{place}")
        for host in topology.hosts:
            _links_up(host, lab)
        for host in topology.hosts:
            _wait_ready(host, lab)
        for host in topology.hosts:
            _configure(host, lab)
    except BaseException:
        lab.down()
        raise
    return lab


# ------------------------------------------------------------------------------------------------ plan


@dataclass(slots=True)
class _Plan:
    """What to run: ``links`` in the root namespace, ``inside`` per namespace suffix."""

    namespaces: list[str]
    links: list[str] = field(default_factory=list)
    inside: dict[str, list[str]] = field(default_factory=dict)


def _plan(topology: Topology, lab: Lab) -> _Plan:
    plan = _Plan([lab.netns(h.name) for h in topology.hosts])
    made: set[tuple[str, str]] = set()
    ports = {  # free bridge ports that a snapshot knows by name: (host, bridge) -> interfaces
        (h.name, i.name): [p for p in h.interfaces if p.master == i.name] for h in topology.hosts for i in h.interfaces
    }
    for host in topology.hosts:
        for i in host.interfaces:
            if i.kind == "bridge":
                plan.links.append(
                    f"link add name {i.name} {_attributes(i)} netns {lab.netns(host.name)} "
                    "type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
                )
                made.add((host.name, i.name))
                lab.macs[host.name, i.name] = i.mac or ""
    for number, segment in enumerate(topology.segments):
        _plan_segment(plan, lab, topology, segment.members, f"br{number}", ports, made)
    for host in topology.hosts:
        for i in host.interfaces:
            if (host.name, i.name) in made or i.kind == "loopback":
                continue
            far = f"e{len(lab.edge_ports)}"
            lab.edge_ports[host.name, i.name] = far
            _pair(plan, lab, host.name, i, EDGE, f"{far} {_mtu(i)}")
            plan.inside.setdefault(EDGE, []).append(f"link set {far} arp off up\n")
            made.add((host.name, i.name))
            if i.master:
                plan.inside.setdefault(host.name, []).append(f"link set {i.name} master {i.master}\n")
    plan.namespaces.append(f"{lab.prefix}-{EDGE}")
    if WIRE in plan.inside:
        plan.namespaces.append(f"{lab.prefix}-{WIRE}")
    return plan


def _plan_segment(plan: _Plan, lab: Lab, topology: Topology, members: tuple[tuple[str, str], ...], bridge: str,
                  ports: dict[tuple[str, str], list[Interface]], made: set[tuple[str, str]]) -> None:  # fmt: skip
    specs = {m: topology.host(m[0]).interface(m[1]) for m in members}
    bridges = [m for m in members if specs[m].kind == "bridge"]
    plain = [m for m in members if specs[m].kind != "bridge"]
    if not bridges and len(plain) == 2:
        (a, _), (b, b_dev) = plain
        peer = specs[plain[1]]
        lab.macs[b, b_dev] = peer.mac or _mac(len(lab.macs))
        _pair(plan, lab, a, specs[plain[0]], b, f"{b_dev} {_attributes(peer, lab.macs[b, b_dev])}")
        made.update(plain)
        return
    if len(bridges) == 1:
        hub_host, hub = bridges[0]
        rest = plain
    else:
        hub_host, hub = WIRE, bridge
        rest = list(members)
        plan.inside.setdefault(WIRE, []).insert(
            0, f"link add {hub} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set {hub} up\n"
        )
    for host, dev in rest:
        if hub_host == WIRE:
            far = Interface(f"w{sum(len(v) for v in plan.inside.values())}")
        else:
            known = ports[hub_host, hub]
            far = known.pop(0) if known else Interface(f"port{len(plan.links)}")
            made.add((hub_host, far.name))
        if specs[host, dev].kind == "bridge":  # a bridge hangs on another one by a port of its own
            known = ports[host, dev]
            near = known.pop(0) if known else Interface(f"port{len(plan.links)}")
            plan.inside.setdefault(host, []).append(f"link set {near.name} master {dev}\nlink set {near.name} up\n")
        else:
            near = specs[host, dev]
        made.add((host, near.name))
        _pair(plan, lab, host, near, hub_host, f"{far.name} {_attributes(far)}")
        plan.inside.setdefault(hub_host, []).append(f"link set {far.name} master {hub} up\n")


def _pair(plan: _Plan, lab: Lab, host: str, near: Interface, far_ns: str, far: str) -> None:
    mac = near.mac or _mac(len(lab.macs))
    lab.macs[host, near.name] = mac
    plan.links.append(
        f"link add name {near.name} {_attributes(near, mac)} netns {lab.netns(host)} type veth "
        f"peer name {far} netns {lab.prefix}-{far_ns}\n"
    )


def _mac(number: int) -> str:
    return f"02:00:00:00:{number >> 8 & 255:02x}:{number + 1 & 255:02x}"


def _mtu(i: Interface) -> str:
    return f"mtu {i.mtu}" if i.mtu else ""


def _attributes(i: Interface, mac: str | None = None) -> str:
    words = [_mtu(i)]
    if i.ifindex > 1:
        words.append(f"index {i.ifindex}")
    if mac or i.mac:
        words.append(f"address {mac or i.mac}")
    return " ".join(w for w in words if w)


# --------------------------------------------------------------------------------------------- building


def _early(host: HostSpec, lab: Lab) -> None:
    """Before there are links: no IPv6 noise where nobody asked for IPv6."""
    if any(":" in a for i in host.interfaces for a in i.addresses):
        return
    with netns.inside(netns.path_of(lab.netns(host.name))):
        _quiet()


def _quiet() -> None:
    for scope in ("all", "default"):
        try:
            netns.write_sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", "1")
        except OSError:
            return  # a kernel without IPv6


def _infrastructure(plan: _Plan, lab: Lab) -> None:
    """The namespaces that are no hosts: nothing in them may answer by accident."""
    for name in (EDGE, WIRE):
        if f"{lab.prefix}-{name}" not in plan.namespaces:
            continue
        with netns.inside(netns.path_of(f"{lab.prefix}-{name}")):
            _quiet()
            netns.write_sysctl("net.ipv4.icmp_echo_ignore_all", "1")
            try:
                netns.write_sysctl("net.bridge.bridge-nf-call-iptables", "0")
            except OSError:
                pass  # no br_netfilter: nothing to switch off


def _links_up(host: HostSpec, lab: Lab) -> None:
    lines = ["link set lo up\n"] if all(i.name != "lo" for i in host.interfaces) else []
    for i in host.interfaces:
        if i.kind == "loopback" and i.mtu and i.mtu != 65536:
            lines.append(f"link set lo mtu {i.mtu}\n")
        if not i.arp:
            lines.append(f"link set {i.name} arp off\n")
        if i.up:
            lines.append(f"link set {i.name} up\n")
    for i in host.interfaces:
        for address in i.addresses:
            if i.kind == "loopback" and address.split()[0] in ("127.0.0.1/8", "::1/128"):
                continue  # the kernel puts them there itself
            lines.append(f"addr add {_with_broadcast(address)} dev {i.name}\n")
    _ip(host, lab, lines)


def _with_broadcast(address: str) -> str:
    """``ip addr add`` without ``brd`` makes no broadcast address; every distribution's tool adds it."""
    words = address.split()
    if ":" in address or "brd" in words or "peer" in words or "scope" in words:
        return address
    length = words[0].partition("/")[2]
    return f"{address} brd +" if length.isdigit() and int(length) < 31 else address


def _ip(host: HostSpec, lab: Lab, lines: list[str]) -> None:
    """Run an ``ip`` batch on a host; a lenient one goes on after an error and keeps it as a note."""
    if not lines:
        return
    if not host.lenient:
        netns.run(["ip", "-batch", "-"], "".join(lines), lab.netns(host.name))
        return
    for line in _refused(host, lab, lines):
        lab.notes.append(f"{host.name}: {line}")


def _refused(host: HostSpec, lab: Lab, lines: list[str]) -> list[str]:
    import subprocess

    with netns.inside(netns.path_of(lab.netns(host.name))):
        child = subprocess.run(
            ["ip", "-force", "-batch", "-"], input="".join(lines), capture_output=True, text=True, check=False
        )
    out = []
    messages = [m for m in child.stderr.splitlines() if m.strip()]
    for position, message in enumerate(messages):
        failed = re.match(r"Command failed .*:(\d+)", message)
        if failed:
            why = messages[position - 1] if position else ""
            out.append(f"ip {lines[int(failed[1]) - 1].strip()}: {why.removeprefix('RTNETLINK answers: ')}")
    return out


def _wait_ready(host: HostSpec, lab: Lab) -> None:
    """Until every interface that can has its carrier: routes added before are marked linkdown."""
    wanted = {i.name for i in host.interfaces if i.up and i.kind == "veth"}
    deadline = time.monotonic() + READY_SECONDS
    while True:
        links = json.loads(netns.run(["ip", "-j", "link"], netns=lab.netns(host.name)) or "[]")
        ready = {
            x["ifname"] for x in links if x.get("operstate") in ("UP", "UNKNOWN") and "LOWER_UP" in x.get("flags", ())
        }
        for link in links:
            if (host.name, link["ifname"]) in lab.macs or link.get("link_type") == "ether":
                lab.macs[host.name, link["ifname"]] = link.get("address", "")
        if wanted <= ready:
            return
        peers_down = wanted - ready
        if time.monotonic() > deadline:
            lab.notes.append(f"{host.name}: no carrier on {', '.join(sorted(peers_down))}")
            return
        select.select([], [], [], 0.002)


def _configure(host: HostSpec, lab: Lab) -> None:
    _sysctls(host, lab)
    _ip(host, lab, [f"nexthop add {words}\n" for words in host.nexthops])
    routes, rules = host.routes, [f"rule add {words}\n" for words in host.rules]
    if host.replace_routes:
        _ip(host, lab, _route_changes(host, lab))
    else:
        _ip(host, lab, [f"{_six(words)}route append {words.removeprefix('-6 ')}\n" for words in routes])
    if host.replace_rules:
        rules = _rule_changes(host, lab)
    neighbours = [f"neigh add {words}\n" for words in host.neighbours]
    _ip(host, lab, rules + neighbours)
    if host.ipset:
        netns.run(["ipset", "restore"], host.ipset, lab.netns(host.name))
    for text, backend in _rule_texts(host):
        netns.run([f"iptables-{backend}-restore", "--noflush"], text, lab.netns(host.name))


def _six(words: str) -> str:
    return "-6 " if words.startswith("-6 ") else ""


def _rule_texts(host: HostSpec) -> list[tuple[str, str]]:
    """(text, backend): a dump says in its header which backend made it (legacy prints no parenthesis)."""
    out = []
    if "\n*" in f"\n{host.iptables}":
        legacy = "Generated by iptables-save" in host.iptables and "(nf_tables)" not in host.iptables
        out.append((host.iptables, "legacy" if legacy else "nft"))
    if "\n*" in f"\n{host.iptables_legacy}":
        out.append((host.iptables_legacy, "legacy"))
    return out


def _sysctl_rank(name: str) -> tuple[int, str]:
    """A write to ip_forward or conf.all spreads to the devices: those first, devices last."""
    if name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        return 0, name
    if ".conf.all." in name:
        return 1, name
    if ".conf.default." in name or ".neigh.default." in name:
        return 2, name
    return (4 if ".conf." in name or ".neigh." in name else 3), name


def _sysctls(host: HostSpec, lab: Lab) -> None:
    with netns.inside(netns.path_of(lab.netns(host.name))):
        for name, value in sorted(host.sysctls, key=lambda s: _sysctl_rank(s[0])):
            path = netns.sysctl_path(name)
            try:
                if host.lenient:
                    with open(path) as file:
                        if file.read().split() == value.split():
                            continue
                netns.write_sysctl(name, value)
            except OSError as error:
                if not host.lenient:
                    raise InputError(f"{host.name}: sysctl {name} = {value}: {error.strerror}") from None
                if not isinstance(error, FileNotFoundError):
                    lab.notes.append(f"{host.name}: sysctl {name} = {value}: {error.strerror}")


def _route_changes(host: HostSpec, lab: Lab) -> list[str]:
    """Delete what the dump lacks, add what it has more. Routes the kernel made by itself stay untouched: a local
    route added by hand switches on full source validation (fib_has_custom_local_routes)."""
    present = _json_of(lab.run(host.name, "ip", "-j", "-d", "-4", "route", "show", "table", "all"))
    have = Counter(_norm_route(_route(r, 4)) for r in present)
    want = [_norm_route(w) for w in host.routes if not w.startswith("-6")]
    surplus = have - Counter(want)
    lines = [f"route del {words}\n" for words in surplus.elements()]
    left = Counter(have)
    missing = []
    for words in want:
        if left[words] > 0:
            left[words] -= 1
        else:
            missing.append(words)
    missing.sort(key=lambda w: (" via " in w or " nhid " in w, " src " in w))
    lines += [f"route append {words}\n" for words in missing]
    lines += [f"-6 route append {w.removeprefix('-6 ')}\n" for w in host.routes if w.startswith("-6")]
    return lines


def _norm_route(words: str) -> str:
    """One spelling: ``unicast``, ``scope global``, ``proto boot`` and table main are what is meant without them."""
    for plain in ("unicast ", "scope global ", "table main ", "proto boot "):
        words = re.sub(rf"(^| ){re.escape(plain)}", r"\1", f"{words} ")
    words = words.replace(" via inet ", " via ")
    return " ".join(words.split())


def _rule_changes(host: HostSpec, lab: Lab) -> list[str]:
    present = [_norm_rule(_rule(r)) for r in _json_of(lab.run(host.name, "ip", "-j", "-4", "rule"))]
    want = [_norm_rule(w) for w in host.rules]
    if present == want:
        return []
    keep = [words for words in present if words in want]
    lines = [f"rule add {words}\n" for words in want if words not in keep]
    lines += [f"rule del {words}\n" for words in present if words not in want]
    return lines


def _norm_rule(words: str) -> str:
    text = words.replace(" table ", " lookup ").replace("[detached]", "").replace("[unresolved]", "")
    text = re.sub(
        r" from all(?= .*(from|to|fwmark|iif|oif|lookup|goto|unreachable|prohibit|blackhole))", "", f" {text} "
    )
    return " ".join(text.split())


def _json_of(text: str) -> list[dict[str, Any]]:
    return json.loads(text or "[]")


# ------------------------------------------------------------------------------------------------ state


def _existing() -> list[str]:
    return sorted(os.listdir(netns.RUN_NETNS)) if netns.RUN_NETNS.is_dir() else []


def _started(pid: int) -> str:
    """Start time of a process (field 22 of its stat), so that a recycled pid is not taken for the maker."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _remember(prefix: str, namespaces: list[str], keep: bool) -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    pid = os.getpid()
    data = {
        "prefix": prefix,
        "namespaces": namespaces,
        "pid": pid,
        "started": _started(pid),
        "keep": keep,
        "processes": [],
    }
    (STATE / f"{prefix}.json").write_text(json.dumps(data))


def labs() -> list[dict[str, Any]]:
    """Every lab that exists, from the state files."""
    if not STATE.is_dir():
        return []
    out = []
    for path in sorted(STATE.glob("*.json")):
        try:
            out.append(json.loads(path.read_text()))
        except (OSError, ValueError):
            out.append({"prefix": path.stem, "namespaces": [], "pid": 0, "started": "", "keep": False, "processes": []})
    return out


def down(prefix: str) -> bool:
    """Remove a lab: the namespaces its state file lists and those of its prefix. False: there was none."""
    path = STATE / f"{prefix}.json"
    state = next((x for x in labs() if x["prefix"] == prefix), None)
    if state is None:
        return False
    _end_processes(state.get("processes", []))
    names = [n for n in _existing() if n in state.get("namespaces", []) or n.startswith(f"{prefix}-")]
    if names:
        netns.run(["ip", "-force", "-batch", "-"], "".join(f"netns del {n}\n" for n in names), check=False)
    path.unlink(missing_ok=True)
    return True


def adopt(prefix: str, pid: int) -> None:
    """Remember a process that belongs to a lab (a listener, a shell of ``lab run``): :func:`down` ends it."""
    path = STATE / f"{prefix}.json"
    data = json.loads(path.read_text())
    data["processes"].append([pid, _started(pid)])
    path.write_text(json.dumps(data))


def _end_processes(processes: list[list[Any]]) -> None:
    """End the lab's own processes; the start time tells a recycled pid from the one that was meant."""
    import signal

    for pid, started in processes:
        if started and _started(pid) == started:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue


def sweep() -> list[str]:
    """Remove the labs whose maker is gone and which were not meant to stay; returns their names."""
    gone = [x["prefix"] for x in labs() if not x.get("keep") and _started(x.get("pid", 0)) != x.get("started")]
    for prefix in gone:
        down(prefix)
    return gone
