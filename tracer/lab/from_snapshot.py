"""A snapshot directory as a topology: the tools' dumps turned back into what the tools accept.

Works on the raw files, so that what is built does not depend on how the simulator reads them. What the machine at hand
cannot make (a vlan, a tunnel) becomes an ordinary interface with the same name, addresses and mtu, and a note.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...sim.errors import InputError
from ...sim.model.where import Where
from .topology import HostSpec, Interface, SegmentSpec, Topology

# Written by the kernel or by the lab itself, machine wide, or without meaning in a fresh namespace.
_SYSCTL_SKIP = re.compile(
    r"net\.(core\.(bpf_|netdev_|optmem|rmem|wmem|dev_weight|flow_limit|warnings|tstamp|message|max_skb|high_order|fb_tunnels|"
    r"devconf|rps_|gro_|skb_defer|mem_pcpu|busy_|somaxconn|xfrm|txrehash|default_qdisc)|unix|mptcp|sunrpc|vsock|appletalk|"
    r"ipv4\.(tcp_(mem|rmem|wmem|congestion|allowed|available|fastopen_key|ulp|child|tw_|max_orphans|ehash|child_ehash|plb)|"
    r"udp_(mem|rmem|wmem|hash|child)|inet_peer|ipfrag_max_dist|route\.(flush|gc_|max_size)|cipso|fib_sync_mem|"
    r"neigh\.[^.]+\.(unres_qlen_bytes|gc_thresh))|ipv6\.|nf_conntrack_max|netfilter\.(nf_conntrack_(buckets|count|max)|nf_log|nf_hooks_lwtunnel))"
)
_MADE_HERE = {"veth", "bridge", ""}


def is_snapshot(path: str | Path) -> bool:
    """Whether the path looks like a snapshot directory (rather than a TOML file)."""
    return Path(path).is_dir()


def from_snapshot(directory: str | Path) -> Topology:
    """Raises InputError when the directory holds nothing a lab could be made of."""
    root = Path(directory)
    if not root.is_dir():
        raise InputError("not a directory", Where(str(directory)), "unpack the archive first, or give a TOML file")
    top: dict[str, Any] = {}
    index = root / "snapshot.json"
    if index.is_file():
        top = _json(index)
    names = top.get("hosts") or sorted(
        p.name for p in root.iterdir() if p.is_dir() and any(_dump(p, k) for k in _KINDS)
    )
    homes = {name: root / name for name in names}
    if not names and any(_dump(root, kind) for kind in _KINDS):
        homes = {_flat_name(root): root}
    if not homes:
        raise InputError("no host in it", Where(str(directory)), "a host has at least link.json or addr.json")
    notes: list[str] = []
    segments = tuple(_segment(s) for s in top.get("segments", ()))
    in_segment = {member for s in segments for member in s.members}
    hosts = tuple(_host(name, home, notes, in_segment) for name, home in homes.items())
    known = {(h.name, i.name) for h in hosts for i in h.interfaces}
    segments = tuple(SegmentSpec(s.name, tuple(m for m in s.members if m in known)) for s in segments)
    return Topology(hosts, tuple(s for s in segments if len(s.members) > 1), tuple(notes))


_KINDS = ("link", "addr", "route", "sysctl", "iptables-save")


def _dump(home: Path, kind: str) -> Path | None:
    for suffix in (".json", ".txt"):
        path = home / f"{kind}{suffix}"
        if path.is_file():
            return path
    return None


def _flat_name(root: Path) -> str:
    meta = root / "meta.json"
    if meta.is_file():
        data = _json(meta)
        return str(data.get("netns") or data.get("hostname") or root.name)
    return root.name


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text() or "[]")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"not JSON: {error}", Where(str(path))) from None


def _text(home: Path, name: str) -> str:
    path = home / name
    return path.read_text(errors="replace") if path.is_file() else ""


def _segment(data: dict[str, Any]) -> SegmentSpec:
    members = tuple((h, d) for h, _, d in (m.partition(":") for m in data.get("members", ())))
    return SegmentSpec(str(data.get("name", "")), members)


def _host(name: str, home: Path, notes: list[str], in_segment: set[tuple[str, str]]) -> HostSpec:
    interfaces = _interfaces(name, home, notes, in_segment)
    routes = _routes(home, 4) + _routes(home, 6)
    rules, has_rules = _rules(home)
    users = tuple(
        (parts[0], int(parts[2]))
        for parts in (line.split(":") for line in _text(home, "passwd.txt").splitlines())
        if len(parts) > 2 and parts[2].isdigit()
    )
    return HostSpec(
        name,
        interfaces,
        routes=routes,
        rules=rules,
        replace_rules=has_rules,
        replace_routes=bool(routes),
        nexthops=_nexthops(home),
        neighbours=_neighbours(home),
        sysctls=_sysctls(home, {i.name for i in interfaces}),
        iptables=_text(home, "iptables-save.txt"),
        iptables_legacy=_text(home, "iptables-legacy-save.txt"),
        ipset=_text(home, "ipset.txt"),
        users=users,
        listen=_listen(home),
        lenient=True,
    )


# ------------------------------------------------------------------------------------------- interfaces


def _interfaces(host: str, home: Path, notes: list[str], in_segment: set[tuple[str, str]]) -> tuple[Interface, ...]:
    links = _links(home)
    addresses = _addresses(home)
    out = []
    for link in links:
        name = link["ifname"]
        kind = link.get("linkinfo", {}).get("info_kind", "")
        flags = link.get("flags", [])
        if "LOOPBACK" in flags or name == "lo":
            out.append(
                Interface(name, tuple(addresses.get(name, ())), up="UP" in flags, kind="loopback", mtu=link.get("mtu"))
            )
            continue
        if kind not in _MADE_HERE:
            notes.append(f"{host}: {name} is a {kind}; built as an ordinary interface")
        mac = link.get("address") if link.get("link_type") == "ether" else None
        master = link.get("master")
        if master is not None and (host, name) not in in_segment and not any(x["ifname"] == master for x in links):
            master = None
        out.append(
            Interface(
                name,
                tuple(addresses.get(name, ())),
                mac,
                link.get("mtu"),
                int(link.get("ifindex", 0)),
                "UP" in flags,
                "NOARP" not in flags,
                "bridge" if kind == "bridge" else "veth",
                master,
            )
        )
    return tuple(out)


def _links(home: Path) -> list[dict[str, Any]]:
    path = _dump(home, "link") or _dump(home, "addr")
    if path is None:
        return []
    return [x for x in _json(path) if x.get("ifname")] if path.suffix == ".json" else _plain_links(path.read_text())


def _plain_links(text: str) -> list[dict[str, Any]]:
    """``ip -d link`` or ``ip -d addr`` as people paste it."""
    out: list[dict[str, Any]] = []
    for line in text.splitlines():
        head = re.match(r"(\d+):\s+([^:@\s]+)(?:@\S+)?:\s+<([^>]*)>.*?mtu (\d+)(.*)", line)
        if head:
            link = {"ifindex": int(head[1]), "ifname": head[2], "flags": head[3].split(","), "mtu": int(head[4])}
            master = re.search(r" master (\S+)", head[5])
            if master:
                link["master"] = master[1]
            out.append(link)
            continue
        mac = re.match(r"\s+link/(\S+) ([0-9a-f:]{17})?", line)
        if mac and out:
            out[-1]["link_type"] = mac[1]
            if mac[2]:
                out[-1]["address"] = mac[2]
        kind = re.match(r"\s+(veth|bridge|vlan|bond|dummy|macvlan|ipvlan|vxlan|tun|wireguard)\b", line)
        if kind and out:
            out[-1]["linkinfo"] = {"info_kind": kind[1]}
    return out


def _addresses(home: Path) -> dict[str, list[str]]:
    """Device → words for ``ip addr add``, in the kernel's order (primary addresses come first in it)."""
    path = _dump(home, "addr")
    out: dict[str, list[str]] = {}
    if path is None:
        return out
    if path.suffix == ".txt":
        dev = ""
        for line in path.read_text().splitlines():
            head = re.match(r"\d+:\s+([^:@\s]+)", line)
            words = line.split()
            if head:
                dev = head[1]
            elif words[:1] in (["inet"], ["inet6"]):
                out.setdefault(dev, []).append(_plain_address(words[1:]))
        return out
    for link in _json(path):
        for info in link.get("addr_info", ()):
            address = _address(info)
            if address:
                out.setdefault(link.get("ifname", ""), []).append(address)
    return out


def _plain_address(words: list[str]) -> str:
    kept = [words[0]]
    for key, value in pairwise(words):
        if key in ("peer", "brd", "scope"):
            kept += [key, value]
    return " ".join(kept)


def _address(info: dict[str, Any]) -> str:
    if info.get("local") is None:
        return ""
    if info.get("family") == "inet6" and info.get("scope") == "link":
        return ""  # made by the kernel from the MAC
    words = info["local"]
    if info.get("address") and info["address"] != info["local"]:
        words += f" peer {info['address']}"
    words += f"/{info.get('prefixlen', 32)}"
    if info.get("broadcast"):
        words += f" brd {info['broadcast']}"
    if info.get("scope"):
        words += f" scope {info['scope']}"
    if info.get("noprefixroute"):
        words += " noprefixroute"
    if info.get("family") == "inet6":
        words += " nodad"
    return words


# ----------------------------------------------------------------------------------------------- routes


def _routes(home: Path, family: int) -> tuple[str, ...]:
    kind = "route" if family == 4 else "route6"
    path = _dump(home, kind)
    if path is None:
        return ()
    if path.suffix == ".txt":
        lines = [
            re.sub(r" (linkdown|dead|onlink_dead|offload|notify)\b", "", x).strip()
            for x in path.read_text().splitlines()
        ]
        return tuple(x for x in lines if x and not (family == 6 and ("fe80::" in x or "ff00::" in x)))
    out = []
    for route in _json(path):
        if family == 6 and (
            route.get("protocol") == "kernel" or str(route.get("dst", "")).startswith(("fe80", "ff00"))
        ):
            continue
        out.append(_route(route, family))
    return tuple(out)


def _route(route: dict[str, Any], family: int) -> str:
    words = [f"-{family}" if family == 6 else "", route.get("type", "unicast"), str(route["dst"])]
    for key, word in (("table", "table"), ("protocol", "proto"), ("scope", "scope"), ("metric", "metric"), ("tos", "tos"),
                      ("prefsrc", "src")):  # fmt: skip
        if route.get(key) not in (None, ""):
            words += [word, str(route[key])]
    for metrics in route.get("metrics", ()):
        for key, value in metrics.items():
            if key in ("mtu", "advmss", "hoplimit", "initcwnd", "window"):
                words += [key, str(value)]
    if route.get("realm") or route.get("to_realm"):
        words += ["realm", str(route.get("realm") or route.get("to_realm"))]
    if route.get("nhid") is not None:
        return " ".join(w for w in words if w) + f" nhid {route['nhid']}"
    if route.get("nexthops"):
        for leg in route["nexthops"]:
            words += ["nexthop", *_leg(leg), "weight", str(leg.get("weight", 1))]
    else:
        words += _leg(route)
    return " ".join(w for w in words if w)


def _leg(leg: dict[str, Any]) -> list[str]:
    words: list[str] = []
    if leg.get("via"):
        words += ["via", str(leg["via"].get("family", "inet")), str(leg["via"].get("host"))]
    elif leg.get("gateway"):
        words += ["via", str(leg["gateway"])]
    if leg.get("dev"):
        words += ["dev", str(leg["dev"])]
    if "onlink" in leg.get("flags", ()):
        words.append("onlink")
    return words


def _rules(home: Path) -> tuple[tuple[str, ...], bool]:
    out: list[str] = []
    found = False
    for kind, family in (("rule", "-4"), ("rule6", "-6")):
        path = _dump(home, kind)
        if path is None:
            continue
        found = found or family == "-4"
        if family == "-6":
            continue  # IPv6 rules stay the default ones for now
        if path.suffix == ".txt":
            for line in path.read_text().splitlines():
                priority, _, words = line.partition(":")
                if words.strip():
                    out.append(f"pref {priority.strip()} {words.strip()}")
        else:
            out += [_rule(rule) for rule in _json(path)]
    return tuple(out), found


def _rule(rule: dict[str, Any]) -> str:
    words = ["not"] if "not" in rule else []
    words += ["pref", str(rule["priority"])]
    for key, word in (("src", "from"), ("dst", "to")):
        if rule.get(key) and rule[key] != "all":
            length = rule.get(f"{key}len")
            words += [word, rule[key] if length is None else f"{rule[key]}/{length}"]
    if len(words) <= 3 and "from" not in words:
        words += ["from", "all"]
    if "fwmark" in rule:
        words += ["fwmark", rule["fwmark"] + (f"/{rule['fwmask']}" if "fwmask" in rule else "")]
    for key in ("iif", "oif", "tos", "dscp", "ipproto", "sport", "dport"):
        if key in rule:
            words += [key, str(rule[key])]
    for key in ("sport", "dport"):
        if f"{key}_start" in rule:
            words += [key, f"{rule[f'{key}_start']}-{rule[f'{key}_end']}"]
    if "uid_start" in rule:
        words += ["uidrange", f"{rule['uid_start']}-{rule['uid_end']}"]
    if "l3mdev" in rule:
        words.append("l3mdev")
    action = rule.get("action")
    if "goto" in rule:
        words += ["goto", str(rule["goto"])]
    elif action in ("unreachable", "prohibit", "blackhole", "nop"):
        words.append(action)
    elif "l3mdev" not in rule:
        words += ["lookup", str(rule.get("table", "main"))]
    for key, word in (("suppress_prefixlen", "suppress_prefixlength"), ("suppress_ifgroup", "suppress_ifgroup")):
        if key in rule:
            words += [word, str(rule[key])]
    return " ".join(words)


def _nexthops(home: Path) -> tuple[str, ...]:
    path = _dump(home, "nexthop")
    if path is None:
        return ()
    if path.suffix == ".txt":
        return tuple(x.strip() for x in path.read_text().splitlines() if x.strip())
    out = []
    for nexthop in sorted(_json(path), key=lambda n: "group" in n):
        words = ["id", str(nexthop["id"])]
        if "group" in nexthop:
            legs = "/".join(f"{g['id']},{g.get('weight', 1)}" for g in nexthop["group"])
            words += ["group", legs]
            if nexthop.get("type") == "resilient":
                words += ["type", "resilient"]
        elif nexthop.get("blackhole") or "blackhole" in nexthop:
            words.append("blackhole")
        else:
            words += _leg(nexthop)
        if "fdb" in nexthop.get("flags", ()):
            continue
        out.append(" ".join(words))
    return tuple(out)


def _neighbours(home: Path) -> tuple[str, ...]:
    """Only what somebody configured: learned entries are learned again."""
    out = []
    for kind, proxy in (("neigh", False), ("neigh-proxy", True)):
        path = _dump(home, kind)
        if path is None or path.suffix != ".json":
            continue
        for entry in _json(path):
            if proxy:
                out.append(f"proxy {entry['dst']} dev {entry['dev']}")
            elif "PERMANENT" in entry.get("state", ()) and entry.get("lladdr"):
                out.append(f"{entry['dst']} lladdr {entry['lladdr']} dev {entry['dev']} nud permanent")
    return tuple(out)


def _sysctls(home: Path, devices: set[str]) -> tuple[tuple[str, str], ...]:
    """IPv4, netfilter and bridge settings, in an order in which a later write does not undo an earlier one."""
    found: list[tuple[str, str]] = []
    for line in _text(home, "sysctl.txt").splitlines():
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals or not name.startswith("net.") or _SYSCTL_SKIP.match(name):
            continue
        parts = name.split(".")
        if parts[2:3] in (["conf"], ["neigh"]) and parts[3].replace("/", ".") not in devices | {"all", "default"}:
            continue
        found.append((name, value.strip()))
    return tuple(found)


def _listen(home: Path) -> tuple[str, ...]:
    """``ss`` lines of listening sockets as "udp ADDR:PORT" and "tcp ADDR:PORT"."""
    out: list[str] = []
    for line in _text(home, "sockets.txt").splitlines():
        words = line.split()
        if len(words) < 6 or words[0] not in ("udp", "tcp"):
            continue
        if words[1] not in ("LISTEN", "UNCONN") or "[" in words[4]:
            continue
        local = words[4].replace("*:", "0.0.0.0:")
        local = re.sub(r"%[^:]*", "", local)
        out.append(f"{words[0]} {local}")
    return tuple(dict.fromkeys(out))
