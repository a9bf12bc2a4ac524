"""Damaged inputs by the ten thousand: whatever is read must end in an answer or an InputError, soon, in bounded memory.

    python tests/property/mutate.py N [SEED] [--only KIND] [--first I] [--at I]

Input I of a SEED depends on nothing else: ``--at I`` repeats it alone. Kinds:

    dump     one recorded dump of one host damaged; the host is then asked and played
    rules    a rule set made of every match and target, damaged, in a working network
    world    a bundled snapshot with one or two files damaged or missing; asked as in `why`, played as in `simulate`
    flow     a FLOW, or a pasted line of another tool, damaged
    packet   a line of simulate's input damaged
    edit     a what-if edit of `why` damaged
    archive  tar, tar.gz, zip of a snapshot damaged, outside and inside of the compression
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import resource
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nattrace.sim.engine.simulate import Simulator
from nattrace.sim.errors import FlowError, InputError
from nattrace.sim.explain.answer import explain
from nattrace.sim.explain.whatif import apply_all, parse_edits
from nattrace.sim.flow import parse_flow
from nattrace.sim.model.world import World
from nattrace.sim.render.text import render
from nattrace.sim.rules.registry import find_match, find_target, match_names, target_names
from nattrace.sim.snapshot.load import BUNDLED, bundled_names, load_world
from property.mutators import damaged, mutate_bytes, mutate_lines, mutate_words

TESTS = Path(__file__).resolve().parents[1]
RECORDED = TESTS / "unit" / "snapshot" / "data"
SLOWEST = 1.0  # seconds of processor time for one input, reading and playing together
ADDRESS_SPACE = 2 << 30  # bytes; what needs more is a bomb
GROWTH = 64 << 10  # KiB by which one input may raise the peak


class Hang(BaseException):
    """An input took longer than allowed; no ``except Exception`` may swallow it."""


# ── seeds ────────────────────────────────────────────────────────────────────────────────────────────────

Files = dict[str, bytes]


@cache
def recorded() -> Files:
    """Dumps of every kind in every form, by the name they have in a snapshot."""
    found = {f.name: f.read_bytes() for form in ("json", "plain") for f in sorted((RECORDED / form).iterdir())}
    for f in sorted((RECORDED / "other").iterdir()):
        found[f.name] = f.read_bytes()
    for kind in ("conntrack", "sockets", "expect"):
        for name in [n for n in found if n.startswith(kind + "-")]:
            found[f"{kind}.txt"] = found.get(f"{kind}.txt", b"") + found.pop(name)
    found["sockets.txt"] += found.pop("ss-tna.txt") + found.pop("ss-tunap.txt")
    found["ip6tables-save.txt"] = found["iptables-legacy-save.txt"] = found["iptables-save.txt"]
    found["snapshot.json"] = b'{"format": 1, "hosts": ["a"], "segments": [{"name": "x", "members": ["a:e0", "a:e1"]}]}'
    return found


@cache
def snapshots() -> dict[str, Files]:
    """The bundled snapshots and small networks made to meet what their kind has none of."""
    found = {}
    for name in bundled_names():
        top = BUNDLED / name
        found[name] = {f.relative_to(top).as_posix(): f.read_bytes() for f in sorted(top.rglob("*")) if f.is_file()}
    found["odd"] = {f"h/{name}": text for name, text in NETWORK.items()}
    return found


NETWORK: Files = {
    "link.json": json.dumps([
        {"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "mtu": 65536},
        {"ifindex": 2, "ifname": "eth0", "flags": ["BROADCAST", "UP", "LOWER_UP"], "mtu": 1500, "address": "02:00:00:00:00:01"},
        {"ifindex": 3, "ifname": "eth1", "flags": ["BROADCAST", "UP", "LOWER_UP"], "mtu": 1400, "address": "02:00:00:00:00:02"},
    ]).encode(),
    "addr.json": json.dumps([
        {"ifindex": i, "ifname": dev, "addr_info": [{"family": "inet", "local": ip, "prefixlen": n, "scope": "global"}]}
        for i, dev, ip, n in ((1, "lo", "127.0.0.1", 8), (2, "eth0", "10.0.0.1", 24), (3, "eth1", "192.0.2.1", 24))
    ]).encode(),
    "route.json": json.dumps([
        {"dst": "10.0.0.0/24", "dev": "eth0", "scope": "link", "prefsrc": "10.0.0.1", "flags": []},
        {"dst": "192.0.2.0/24", "dev": "eth1", "scope": "link", "prefsrc": "192.0.2.1", "flags": []},
        {"dst": "default", "nhid": 20, "flags": []},
        {"dst": "10.9.0.0/16", "metric": 5, "flags": [], "nexthops": [
            {"gateway": "10.0.0.9", "dev": "eth0", "weight": 1, "flags": []},
            {"gateway": "192.0.2.9", "dev": "eth1", "weight": 2, "flags": []}]},
        {"type": "unreachable", "dst": "10.66.0.0/16", "dev": "lo", "flags": []},
        {"type": "throw", "dst": "10.67.0.0/16", "table": "100", "flags": []},
    ]).encode(),
    "rule.json": json.dumps([
        {"priority": 0, "src": "all", "table": "local"},
        {"priority": 10, "src": "all", "fwmark": "0x5", "fwmask": "0xff", "table": "100"},
        {"priority": 20, "src": "10.0.0.7", "goto": 32766},
        {"priority": 30, "src": "all", "ipproto": "udp", "dport": 53, "table": "100", "suppress_prefixlen": 0},
        {"priority": 32766, "src": "all", "table": "main"},
        {"priority": 32767, "src": "all", "table": "default"},
    ]).encode(),
    "nexthop.json": json.dumps([
        {"id": 1, "gateway": "192.0.2.2", "dev": "eth1", "flags": []},
        {"id": 2, "gateway": "10.0.0.2", "dev": "eth0", "flags": []},
        {"id": 20, "group": [{"id": 1, "weight": 1}, {"id": 2, "weight": 3}], "flags": []},
        {"id": 30, "blackhole": None, "flags": []},
    ]).encode(),
    "ipset.txt": b"create s hash:ip family inet hashsize 1024 maxelem 65536\nadd s 10.0.0.7\ncreate n hash:net family inet hashsize "
    b"1024 maxelem 65536\nadd n 10.0.0.0/8\nadd n 10.1.0.0/16 nomatch\ncreate l list:set size 8\nadd l s\nadd l n\n"
    b"create p hash:ip,port family inet hashsize 1024 maxelem 65536 timeout 60\nadd p 10.0.0.7,tcp:80 timeout 5\n",
    "iptables-save.txt": b"*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:A - [0:0]\n"
    b"-A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.7:8080\n-A POSTROUTING -j A\n"
    b"-A A -o eth1 -j MASQUERADE\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:B - [0:0]\n"
    b":C - [0:0]\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -g B\n-A B -i eth0 -j C\n"
    b'-A C -m set --match-set n src -j RETURN\n-A C -m comment --comment "a b" -j LOG --log-prefix "x: "\n-A B -j ACCEPT\nCOMMIT\n',
    "sysctl.txt": b"net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.eth0.rp_filter = 1\n"
    b"net.ipv4.conf.eth1.rp_filter = 2\nnet.ipv4.ip_local_port_range = 32768\t60999\nnet.netfilter.nf_conntrack_max = 1000\n",
    "conntrack.txt": b"ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.7 dst=8.8.8.8 sport=40000 dport=443 src=8.8.8.8 dst=192.0.2.1 "
    b"sport=443 dport=40000 [ASSURED] mark=0 use=1\nipv4     2 udp      17 20 src=10.0.0.8 dst=8.8.8.8 sport=5 dport=53 [UNREPLIED] "
    b"src=8.8.8.8 dst=10.0.0.8 sport=53 dport=5 mark=0 zone=3 use=1\n",
    "sockets.txt": b'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3)) ino:1 sk:1\nudp UNCONN 0 0 10.0.0.1:53 0.0.0.0:*\n',
    "neigh.json": json.dumps([{"dst": "10.0.0.2", "dev": "eth0", "lladdr": "02:00:00:00:00:09", "state": ["FAILED"]}]).encode(),
}  # fmt: skip


@cache
def rule_lines() -> dict[tuple[str, str], list[bytes]]:
    """(table, chain) → rules: the documented example of every match, every recorded form of every target."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for name in match_names():
        info = find_match(name)
        chain = {"owner": "OUTPUT", "cgroup": "OUTPUT", "rpfilter": "PREROUTING"}.get(name, "FORWARD")
        table = "raw" if chain == "PREROUTING" else "filter"
        if info is not None and 2 in info.families:
            found.setdefault((table, chain), []).append(info.doc.encode() + b" -j LOG")
    for line in (TESTS / "unit" / "targets" / "printed.txt").read_text().splitlines():
        if not line.startswith("#") and not line.endswith("refused"):
            place, spec, _ = (part.strip() for part in line.split("|", 2))
            table, chain = place.split()[:2]
            found.setdefault((table, chain), []).append(spec.encode())
    assert target_names() and find_target("SNAT")
    return found


FLOWS = (
    "10.10.1.1 -> 8.8.8.8", "tcp 10.0.0.7:40000 -> 1.2.3.4:443 in eth0", "udp [2001:db8::5]:5353 -> [2001:db8::9]:5353",
    "8.8.8.8 uid 1000", "1.2.3.4:443/tcp", "1.2.3.4:https at h", "10.0.0.1:5 -> 8.8.8.8:80 mark 0x5 dscp EF ttl 3 len 1400 df",
    "icmp 10.0.0.7 -> 8.8.8.8 type echo-reply id 9 seq 4", "tcp 10.0.0.7 -> 192.0.2.1:80 flags SA in eth0 tos 0x10 mac 02:00:00:00:00:09",
    "esp 10.0.0.7 -> 8.8.8.8 spi 0x100", "proto 99 10.0.0.7 -> 8.8.8.8", "fe80::1%eth0", "127.0.0.1:80", "255.255.255.255",
    "224.0.0.251:5353/udp", "0.0.0.0", "-> 10.9.1.1:1 time 2026-01-01T00:00:00", "8.8.8.8 cgroup a/b gid 5 uid 7",
    "IP 10.0.0.7.40000 > 8.8.8.8.443: Flags [S], seq 1, win 64240, options [mss 1460], length 0",
    "12:00:00.000000 eth0  In  IP (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto ICMP (1), length 84) 10.0.0.7 > 8.8.8.8: ICMP echo request, id 1, seq 1, length 64",
    "ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.7 dst=8.8.8.8 sport=40000 dport=443 src=8.8.8.8 dst=192.0.2.1 sport=443 dport=40000 [ASSURED] mark=0 use=1",
    "IN=eth0 OUT= MAC=02:00:00:00:00:01:02:00:00:00:00:02:08:00 SRC=10.0.0.7 DST=192.0.2.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=1 DF PROTO=TCP SPT=1 DPT=80 WINDOW=1 RES=0x00 SYN URGP=0",
    "ESTAB      0      0      10.0.0.1:22      10.0.0.7:50000", "tcp   ESTAB 0 0 10.0.0.1%eth0:22 [::ffff:10.0.0.7]:50000 uid:1000",
)  # fmt: skip
PACKETS = (
    {"id": 1, "host": "h", "in": None, "proto": "tcp", "src": None, "dst": "8.8.8.8", "sport": 40000, "dport": 443, "flags": "S",
     "uid": 1000, "mark": 0, "ttl": 64, "tos": 0, "len": 60, "at": 0.0},
    {"id": "x", "host": "h", "in": "eth0", "proto": "icmp", "src": "10.0.0.7", "dst": "8.8.8.8", "type": 8, "code": 0, "icmp_id": 1, "seq": 2},
    {"host": "h", "in": "eth1", "proto": "icmp", "src": "192.0.2.9", "dst": "192.0.2.1", "type": 3, "code": 4, "mtu": 1300,
     "inner": {"proto": "udp", "src": "192.0.2.1", "dst": "8.8.8.8", "sport": 5, "dport": 53}},
    {"host": "h", "in": "eth0", "proto": "udp", "src": "10.0.0.7", "dst": "10.0.0.1", "sport": 9, "dport": 53, "payload": "00ff", "mac": "02:00:00:00:00:09",
     "df": True, "observed": {"sport": 9, "outcome": "delivered"}, "at": 5.5},
    {"host": "h", "in": None, "proto": 47, "src": "10.0.0.1", "dst": "10.9.9.9", "oif": "eth0", "transparent": False, "gid": 7},
)  # fmt: skip
EDITS = (
    ("set", "net.ipv4.ip_forward=0"), ("set", "net.ipv4.conf.eth0.rp_filter=2 at h"),
    ("add", "iptables -t nat -A POSTROUTING -o eth1 -j SNAT --to-source 192.0.2.1"), ("add", "-A FORWARD -p tcp --dport 1:5 -j DROP"),
    ("insert", "iptables -I FORWARD 2 -s 10.0.0.0/8 -j REJECT --reject-with tcp-reset"),
    ("delete", "iptables -D FORWARD 1"), ("delete", "iptables -t nat -D A -o eth1 -j MASQUERADE"),
    ("route", "10.5.0.0/16 via 192.0.2.9 dev eth1 metric 5"), ("route", "default via 10.0.0.2 table 100"),
    ("route", "blackhole 8.8.8.8"), ("rule", "from 10.0.0.0/8 lookup 100"), ("rule", "fwmark 0x1/0xff iif eth0 table 100 priority 5"),
    ("without", "sysctl.txt"), ("without", "iptables-save.txt"),
)  # fmt: skip


# ── what is asked of a world ─────────────────────────────────────────────────────────────────────────────


def ask(world: World, rng: Random, questions: int = 2) -> None:
    """A few questions as `why` and packets as `simulate` would put them; only an InputError may come out."""
    hosts = list(world.hosts.values())
    simulator = Simulator(world, verbose=rng.random() < 0.3, replies=True)
    for _ in range(questions):
        host = rng.choice(hosts)
        devs = [*host.links, None, None]
        own = [a for h in hosts for a in h.addresses if a.family == 2]
        picks = ["8.8.8.8", "10.0.0.7", "10.9.1.1", "127.0.0.1", "255.255.255.255", "224.0.0.1"]
        ends = [dotted(rng.choice(own).local) if own and rng.random() < 0.6 else rng.choice(picks) for _ in range(2)]
        dev, proto = rng.choice(devs), rng.choice(("icmp", "tcp", "udp", "sctp", "esp"))
        record: dict[str, Any] = {
            "host": host.name,
            "in": dev,
            "proto": proto,
            "src": ends[0],
            "dst": ends[1],
            "at": rng.choice((0, 1, 1e6)),
        }
        if proto in ("tcp", "udp", "sctp"):
            record |= {"sport": 40000, "dport": rng.choice((22, 53, 80, 443))}
        if dev is None and rng.random() < 0.5:
            record["src"] = None
        with contextlib.suppress(InputError):
            json.dumps(simulator.feed(record), allow_nan=False)
        port = f":{record['dport']}" if "dport" in record else ""
        source = f"{record['src']} -> " if record["src"] else ""
        flow = f"{proto} {source}{ends[1]}{port}" + (f" in {dev}" if dev else "") + f" at {host.name}"
        with contextlib.suppress(InputError):
            answer(world, flow, rng)


def answer(world: World, flow: str, rng: Random) -> None:
    """As `why FLOW` does: text that is safe for a terminal and within it, JSON that is JSON."""
    question = parse_flow(flow, world)
    found = explain(world, question, fixes=rng.random() < 0.03, sample=2)
    json.loads(json.dumps(found.to_json(), allow_nan=False))
    width = rng.choice((80, 100))
    page = render(found, width=width, verbose=rng.random() < 0.5)
    for line in page[:-1].split("\n"):
        assert line.isprintable(), f"raw characters reach the terminal: {line!r}"


def dotted(value: int) -> str:
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


@contextlib.contextmanager
def folder_of(files: Files) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=FAST) as top:
        for name, data in files.items():
            file = Path(top, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        yield Path(top)


FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def loaded(files: Files, strict: bool = False) -> World | None:
    """The world of these files, or None: refused with an InputError that says something."""
    with folder_of(files) as top:
        return accepted(lambda: load_world(top, strict=strict))


def accepted(load: Callable[[], World]) -> World | None:
    try:
        return load()
    except InputError as error:
        assert str(error).strip()
        return None


# ── the kinds of input ───────────────────────────────────────────────────────────────────────────────────


def dump(rng: Random) -> str:
    name = rng.choice(sorted(recorded()))
    files = {name: damaged(name, recorded()[name], rng)}
    if name == "snapshot.json":
        files["a/sysctl.txt"] = NETWORK["sysctl.txt"]
    elif rng.random() < 0.3:
        files = {n: d for n, d in NETWORK.items() if n.partition(".")[0] != name.partition(".")[0]} | files
    world = loaded(files, strict=rng.random() < 0.5)
    if world is None:
        return "refused"
    ask(world, rng, 1)
    return "accepted"


def rules(rng: Random) -> str:
    lines = rule_lines()
    tables: dict[str, dict[str, list[bytes]]] = {}
    for _ in range(rng.randint(1, 12)):
        table, chain = rng.choice(list(lines))
        line = b"-A " + chain.encode() + b" " + rng.choice(lines[table, chain])
        tables.setdefault(table, {}).setdefault(chain, []).append(line)
    text = b""
    for table, chains in tables.items():
        base = BUILT_IN[table]
        text += b"*%s\n" % table.encode()
        text += b"".join(b":%s ACCEPT [0:0]\n" % c.encode() for c in base) + b":U - [0:0]\n:V - [0:0]\n"
        for chain, some in chains.items():
            if rng.random() < 0.3:
                some.insert(
                    0, b"-A %s -%s %s" % (chain.encode(), rng.choice((b"j", b"g")), rng.choice((b"U", b"V", b"W")))
                )
            text += b"\n".join(some) + b"\n"
        text += (
            rng.choice((b"", b"-A U -j V\n", b"-A U -j V\n-A V -j U\n", b"-A U -j W\n", b"-A V -g V\n")) + b"COMMIT\n"
        )
    if rng.random() < 0.8:
        text = rng.choice((mutate_bytes, mutate_words, mutate_words, mutate_lines))(text, rng)
    world = loaded(NETWORK | {"iptables-save.txt": text}, strict=rng.random() < 0.3)
    if world is None:
        return "refused"
    ask(world, rng, 2)
    return "accepted"


BUILT_IN = {
    "raw": ("PREROUTING", "OUTPUT"), "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"), "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}  # fmt: skip


def world(rng: Random) -> str:
    files = dict(snapshots()[rng.choice(sorted(snapshots()) + ["odd"] * 20)])
    for name in rng.sample(sorted(files), rng.randint(1, 2)):
        if rng.random() < 0.2:
            del files[name]
        else:
            files[name] = damaged(name, files[name], rng)
    found = loaded(files, strict=rng.random() < 0.2)
    if found is None:
        return "refused"
    ask(found, rng, 1)
    return "accepted"


@cache
def still() -> World:
    """An undamaged world for flows, packets and edits."""
    found = loaded(snapshots()["odd"])
    assert found is not None
    return found


def flow(rng: Random) -> str:
    text = rng.choice(FLOWS).encode()
    text = rng.choice((mutate_bytes, mutate_words, mutate_words))(text, rng)
    shown = text.decode("utf-8", rng.choice(("replace", "surrogateescape")))
    try:
        question = parse_flow(shown, still())
    except FlowError as error:
        if error.column is not None:
            assert 0 <= error.column <= len(error.text)
        return "refused"
    question.start(question.prepare(still()))
    if rng.random() < 0.2:
        answer(still(), shown, rng)
    return "accepted"


def packet(rng: Random) -> str:
    line = damaged("packets.jsonl", json.dumps(rng.choice(PACKETS)).encode(), rng)
    try:
        record = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return "refused"
    try:
        json.dumps(Simulator(still(), replies=True).feed(record), allow_nan=False)
    except InputError:
        return "refused"
    return "accepted"


def edit(rng: Random) -> str:
    kind, text = rng.choice(EDITS)
    shown = rng.choice((mutate_bytes, mutate_words, mutate_words))(text.encode(), rng).decode("utf-8", "replace")
    try:
        found = apply_all(still(), parse_edits(still(), {kind: (shown,)}, "h"))
        ask(found, rng, 1)
    except InputError:
        return "refused"
    return "accepted"


@cache
def archives() -> dict[str, bytes]:
    files = snapshots()["odd"]
    packed: dict[str, bytes] = {}
    for suffix, mode in (("tar", "w"), ("tar.gz", "w:gz")):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        packed[suffix] = out.getvalue()
    methods = {
        "zip": zipfile.ZIP_DEFLATED,
        "stored.zip": zipfile.ZIP_STORED,
        "bz2.zip": zipfile.ZIP_BZIP2,
        "xz.zip": zipfile.ZIP_LZMA,
    }
    for suffix, method in methods.items():
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        packed[suffix] = out.getvalue()
    return packed


def archive(rng: Random) -> str:
    suffix = rng.choice(sorted(archives()))
    data = archives()[suffix]
    if suffix == "tar.gz" and rng.random() < 0.6:
        data = gzip.compress(headers_damaged(archives()["tar"], rng), 1)
    elif rng.random() < 0.6:
        data = headers_damaged(data, rng)
    else:
        data = mutate_bytes(data, rng)
    with folder_of({f"s.{suffix}": data}) as top:
        found = accepted(lambda: load_world(top / f"s.{suffix}"))
    if found is None:
        return "refused"
    ask(found, rng, 1)
    return "accepted"


def headers_damaged(data: bytes, rng: Random) -> bytes:
    """A few bytes changed where the structure is: the head of a tar member, the tables at the two ends of a zip."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        base = rng.choice((0, 512 * rng.randrange(max(1, len(out) // 512)), max(0, len(out) - 800)))
        at = min(len(out) - 1, base + rng.randrange(512))
        out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x30, 0x37, rng.randrange(256)))
    return bytes(out)


KINDS: dict[str, tuple[Callable[[Random], str], int]] = {
    "dump": (dump, 26), "rules": (rules, 20), "world": (world, 14), "flow": (flow, 20), "packet": (packet, 8), "edit": (edit, 6),
    "archive": (archive, 6),
}  # fmt: skip


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Tally:
    """What became of the inputs. ``failures``: signature → (input number, kind, trace)."""

    count: Counter[str] = field(default_factory=Counter)
    failures: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    slow: list[tuple[float, int, str]] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0

    def lines(self) -> Iterator[str]:
        total = sum(self.count.values())
        yield f"{total} inputs, {self.seconds:.0f} s of processor time, {self.seconds / max(total, 1) * 1000:.2f} ms each"
        for key in sorted(self.count):
            yield f"  {key:<18} {self.count[key]}"
        yield f"slowest: {', '.join(f'{s:.3f} s (input {i}, {k})' for s, i, k in self.slow[:3])}; peak memory {self.peak >> 10} MiB"
        yield f"{len(self.failures)} kinds of failure, {sum(self.failed.values())} inputs"
        for signature, (number, kind, trace) in self.failures.items():
            yield f"── {self.failed[signature]} × {signature}; first: input {number} ({kind})\n{trace}"


def run(first: int, last: int, seed: int, only: str | None = None) -> Tally:
    """Inputs ``first`` to ``last`` (exclusive) of a seed."""
    tally = Tally()
    names = [only] if only else list(KINDS)
    weights = [KINDS[name][1] for name in names]
    for number in range(first, last):
        rng = Random(f"{seed}/{number}")
        kind = rng.choices(names, weights)[0]
        one(tally, number, kind, rng, KINDS[kind][0])
    tally.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return tally


def late(*_: object) -> None:
    raise Hang(f"more than {SLOWEST * 2} s of processor time")


def one(tally: Tally, number: int, kind: str, rng: Random, play: Callable[[Random], str]) -> None:
    """One input, watched: what it raises, how long it takes, how far it pushes the peak of the memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    previous = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, SLOWEST * 2)
    try:
        tally.count[f"{kind} {play(rng)}"] += 1
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        tally.count[f"{kind} FAILED"] += 1
        _failed(tally, error, number, kind)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, previous)
    took = time.process_time() - started
    tally.seconds += took
    if took > SLOWEST:
        _failed(tally, Hang("slow"), number, kind)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    if grown > GROWTH and tally.seconds > 5:
        _failed(tally, MemoryError(f"the peak grew by {grown >> 10} MiB"), number, kind)
    tally.slow = sorted([*tally.slow, (took, number, kind)], reverse=True)[:5]


def _failed(tally: Tally, error: BaseException, number: int, kind: str) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    place = next((f"{Path(f.filename).name}:{f.name}" for f in reversed(frames) if "mutat" not in f.filename), "?")
    signature = f"{type(error).__name__} in {place}"
    tally.failed[signature] += 1
    text = "".join(traceback.format_exception(error)[-7:])
    tally.failures.setdefault(signature, (number, kind, text[-1800:]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", type=int, nargs="?", default=1000)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--at", type=int, help="repeat one input alone")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    first, last = (given.at, given.at + 1) if given.at is not None else (given.first, given.first + given.n)
    tally = run(first, last, given.seed, given.only)
    print("\n".join(tally.lines()))
    return bool(tally.failures)


if __name__ == "__main__":
    sys.exit(main())
