"""Routing decisions against ``ip route get`` of the running kernel, over random addresses, rules, routes and sysctls.

NATTRACE_ROUTING_N: situations to try (default 60); NATTRACE_ROUTING_SEED: the first seed.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from nattrace.sim.engine import routing
from nattrace.sim.engine.fib_rules import has_custom_rules
from nattrace.sim.engine.run import Ctx, Run
from nattrace.sim.model.addr import AF_INET, format_addr, parse_addr, parse_prefix
from nattrace.sim.model.packet import PROTO_NUMBER, Skb
from nattrace.sim.model.state import WorldState
from nattrace.sim.model.world import Host, World
from nattrace.sim.snapshot.load import load_world

pytestmark = pytest.mark.kernel

SITUATIONS = int(os.environ.get("NATTRACE_ROUTING_N", "60"))
FIRST_SEED = int(os.environ.get("NATTRACE_ROUTING_SEED", "1"))
QUERIES = 400
NAMESPACE = f"nt-routing-{os.getpid()}"
DEVICES = ("d0", "d1", "d2", "p0", "p1", "p2")
ERRNO = {
    "Network is unreachable": 101, "No route to host": 113, "Invalid argument": 22, "Permission denied": 13,
    "Invalid cross-device link": 18, "No such device": 19,
}  # fmt: skip
CONF = (
    "rp_filter", "accept_local", "route_localnet", "src_valid_mark", "forwarding", "send_redirects", "bc_forwarding",
    "ignore_routes_with_linkdown",
)  # fmt: skip


def run(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, input=stdin, text=True, capture_output=True, check=False)


def ip(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return run("ip", "-n", NAMESPACE, *words, stdin=stdin)


@pytest.fixture()
def namespace() -> Iterator[str]:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        lines = ["link set lo up"]
        for i in range(3):
            lines += [f"link add d{i} type veth peer name p{i}", f"link set d{i} up", f"link set p{i} up"]
        lines += ["link set d1 group 4", "link set p2 mtu 1400"]
        done = ip("-batch", "-", stdin="\n".join(lines))
        assert not done.returncode, done.stderr
        yield NAMESPACE
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)


# --- a random situation -------------------------------------------------------------------------------------------


class Situation:
    """Commands that make one, from a seed. Addresses come from few octets, so that things overlap."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.batch: list[str] = []
        self.own: list[str] = ["127.0.0.1"]
        self.sysctl: list[str] = []
        r = self.random
        for _ in range(r.randint(3, 9)):
            self.batch.append(self.address())
        self.groups: list[int] = []
        if r.random() < 0.4:
            self.nexthop_objects()
        for _ in range(r.randint(4, 25)):
            self.batch.append(self.route())
        if r.random() < 0.3:
            self.batch += [f"route append default {self.hop()}" for _ in range(3)]
        if r.random() < 0.3:
            self.batch.append(f"link set {self.dev()} down")
        if r.random() < 0.75:
            for _ in range(r.randint(1, 9)):
                self.batch.append(self.rule())
            if r.random() < 0.2:
                self.batch += ["rule del priority 0", "rule add priority 5000 lookup local"]
        for key in CONF:
            if r.random() < 0.5:
                self.sysctl.append(f"all/{key}={r.choice((0, 0, 1, 1, 2)) if key == 'rp_filter' else r.randint(0, 1)}")
        for dev in DEVICES:
            for key in CONF:
                if r.random() < 0.4:
                    value = r.choice((0, 1, 2)) if key == "rp_filter" else r.randint(0, 1)
                    self.sysctl.append(f"{dev}/{key}={value}")

    def addr(self) -> str:
        r = self.random
        if r.random() < 0.08:
            return r.choice(
                ("0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1", "127.1.2.3", "0.1.2.3", "240.1.2.3")
            )
        return f"{r.choice((10, 10, 10, 11, 20))}.{r.randint(0, 3)}.{r.choice((0, 1))}.{r.choice((0, 1, 2, 3, 7, 127, 255))}"

    def prefix(self) -> str:
        r = self.random
        plen = r.choice((0, 7, 8, 15, 16, 17, 23, 24, 25, 30, 31, 32))
        return str(parse_prefix(f"{self.addr()}/{plen}"))

    def dev(self) -> str:
        return self.random.choice(DEVICES)

    def address(self) -> str:
        r = self.random
        host = f"10.{r.randint(0, 3)}.{r.randint(0, 1)}.{r.randint(1, 7)}"
        self.own.append(host)
        line = f"addr add {host}/{r.choice((8, 16, 24, 24, 24, 25, 30, 31, 32))} dev {self.dev()}"
        if r.random() < 0.1:
            line = f"addr add {host} peer 11.0.0.{r.randint(1, 7)}/{r.choice((24, 32))} dev {self.dev()}"
        if r.random() < 0.15:
            line += f" scope {r.choice(('link', 'host'))}"
        if r.random() < 0.2:
            line += " brd +"
        return line

    def hop(self) -> str:
        gateway = f"10.{self.random.randint(0, 3)}.{self.random.randint(0, 1)}.{self.random.randint(1, 7)}"
        return f"via {gateway} dev {self.dev()}" + self.random.choice(("", " onlink"))

    def route(self) -> str:
        r = self.random
        kind = r.choices(
            ("unicast", "link", "multi", "unreachable", "prohibit", "blackhole", "throw", "local", "broadcast"),
            (8, 5, 5, 1, 1, 1, 1.5, 0.7, 0.3),
        )[0]
        line = f"route add {kind if kind not in ('link', 'multi') else ''} {self.prefix()}"
        if kind == "unicast" and self.groups and r.random() < 0.5:
            line += f" nhid {r.choice(self.groups)}"
        elif kind == "unicast":
            line += " " + self.hop()
        elif kind in ("link", "local", "broadcast"):
            line += f" dev {self.dev()}"
        if r.random() < 0.2:
            line += f" tos {r.choice(('0x04', '0x08', '0x10', '0x1c'))}"
        line += f" table {r.choice((254, 254, 254, 100, 200, 255, 253))}"
        if r.random() < 0.25:
            line += f" metric {r.choice((1, 5, 10))}"
        if r.random() < 0.15 and kind in ("unicast", "link", "multi"):
            line += f" src 10.{r.randint(0, 3)}.{r.randint(0, 1)}.{r.randint(1, 7)}"
        if r.random() < 0.1 and kind in ("unicast", "link", "multi"):
            line += f" mtu {r.choice(('lock', ''))} {r.choice((576, 1000, 1450))}"
        if kind == "multi":
            for _ in range(r.randint(2, 4)):
                line += f" nexthop {self.hop().replace(' onlink', '')} onlink weight {r.randint(1, 5)}"
        if kind == "link" and r.random() < 0.2:
            line += " scope global"
        return line

    def nexthop_objects(self) -> None:
        r = self.random
        for nhid in range(1, 6):
            self.batch.append(f"nexthop add id {nhid} " + r.choice((self.hop(), f"dev {self.dev()}", "blackhole")))
        for nhid in (10, 11):
            members = r.sample(range(1, 6), r.randint(1, 3))
            self.batch.append(f"nexthop add id {nhid} group " + "/".join(f"{m},{r.randint(1, 4)}" for m in members))
        self.groups = [1, 2, 3, 10, 10, 11]

    def rule(self) -> str:
        r = self.random
        line = "rule add "
        for chance, words in (
            (0.1, "not"), (0.35, f"from {self.prefix()}"), (0.25, f"to {self.prefix()}"),
            (0.2, f"iif {r.choice((*DEVICES, 'lo', 'lo', 'nope'))}"), (0.12, f"oif {r.choice((*DEVICES, 'nope'))}"),
            (0.2, f"fwmark {r.choice(('1', '2', '1/1', '0/2', '3/7'))}"),
            (0.1, f"tos {r.choice(('0x04', '0x08', '0x10', '0x1c'))}"),
            (0.15, r.choice(("uidrange 0-0", "uidrange 1000-2000"))), (0.1, f"ipproto {r.choice(('tcp', 'udp'))}"),
            (0.1, r.choice(("sport 1000", "sport 1-2000"))), (0.1, r.choice(("dport 53", "dport 50-100"))),
        ):  # fmt: skip
            if r.random() < chance:
                line += f" {words}"
        line += f" priority {r.choice((10, 20, 30, 40, 32766, 32800, r.randint(1, 33000)))}"
        action = r.choices(
            ("table", "goto", "nop", "blackhole", "unreachable", "prohibit"), (10, 1, 0.5, 0.5, 0.5, 0.5)
        )[0]
        if action == "table":
            line += f" table {r.choice((100, 200, 254, 253, 255, 999))}"
            if r.random() < 0.2:
                line += f" suppress_prefixlength {r.choice((0, 8, 16, 24))}"
            if r.random() < 0.15:
                line += " suppress_ifgroup 4"
            return line
        return f"{line} {'goto 33100' if action == 'goto' and r.random() < 0.3 else 'goto 32766' if action == 'goto' else action}"

    def queries(self, count: int) -> list[dict[str, Any]]:
        return [self.query() for _ in range(count)]

    def query(self) -> dict[str, Any]:
        r = self.random
        q: dict[str, Any] = {"dst": self.addr()}
        if r.random() < 0.55:
            q["iif"], q["from"] = r.choice((*DEVICES, *DEVICES, "lo")), self.addr()
            if q["from"] == "0.0.0.0":
                del q["iif"], q["from"]
        elif r.random() < 0.5:
            q["from"] = r.choice(self.own) if r.random() < 0.8 else self.addr()
        if "iif" not in q and r.random() < 0.25:
            q["oif"] = r.choice((*DEVICES, "lo"))
        if r.random() < 0.3:
            q["mark"] = r.choice((1, 2, 3, 7))
        if r.random() < 0.3:
            q["tos"] = r.choice((4, 8, 0x10, 0x1C, 0x50))
        if r.random() < 0.3 and "iif" not in q:
            q["uid"] = r.choice((1, 1000, 3000))
        if r.random() < 0.3:
            q["ipproto"] = r.choice(("tcp", "udp"))
            q["sport"], q["dport"] = r.choice((1000, 1500, 5000)), r.choice((53, 80, 443))
        return q


# --- the same as a Host -------------------------------------------------------------------------------------------

DUMPS = {
    "link.json": "-j -d link", "addr.json": "-j -d addr", "route.json": "-j -d -4 route show table all",
    "rule.json": "-j -4 rule", "nexthop.json": "-j -d nexthop", "neigh-proxy.json": "-j neigh show proxy",
}  # fmt: skip


def host_of(namespace: str, folder: Path) -> Host:
    """A namespace through its dumps, as a user would make them."""
    folder.mkdir(exist_ok=True)
    for name, command in DUMPS.items():
        (folder / name).write_text(run("ip", "-n", namespace, *command.split()).stdout)
    (folder / "sysctl.txt").write_text(run("ip", "netns", "exec", namespace, "sysctl", "net.ipv4").stdout)
    (folder / "meta.json").write_text(json.dumps({"netns": namespace, "kernel": os.uname().release}))
    (host,) = load_world(str(folder)).hosts.values()
    return host


# --- asking both ---------------------------------------------------------------------------------------------------


def ask_kernel(queries: list[dict[str, Any]]) -> list[Any]:
    """Each query's JSON answer, or the errno."""
    lines = []
    for q in queries:
        words = [f"{key} {hex(value) if key == 'tos' else value}" for key, value in q.items() if key != "dst"]
        lines.append(f"route get {q['dst']} {' '.join(words)}")
    done = ip("-j", "-force", "-batch", "-", stdin="\n".join(lines) + "\n")
    failed: dict[int, int] = {}
    message = ""
    for line in done.stderr.splitlines():
        found = re.match(r"Command failed -:(\d+)", line)
        if found:
            text = message.rpartition("answers: ")[2]
            failed[int(found[1]) - 1] = ERRNO.get(text, -1)
            assert text in ERRNO, (message, lines[int(found[1]) - 1])
        else:
            message = line
    answers = iter([json.loads(line)[0] for line in done.stdout.splitlines() if line.startswith("[{")])
    return [failed[i] if i in failed else next(answers) for i in range(len(queries))]


def seen(answer: Any, q: dict[str, Any]) -> tuple[Any, ...]:
    """What of the kernel's answer is compared."""
    if isinstance(answer, int):
        return ("error", answer)
    mtu = next((m["mtu"] for m in answer.get("metrics", ()) if "mtu" in m), None)
    kind = answer.get("type", "unicast")
    mtu = None if kind in ("local", "multicast") else mtu
    return (kind, answer["dev"], answer.get("gateway"), answer.get("prefsrc"), mtu)


def possible(host: Host, q: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], routing.Rt]]:
    """Every result the engine holds possible."""
    world = World({host.name: host})
    pending: list[tuple[int, ...]] = [()]
    while pending:
        prefix = pending.pop()
        world_run = Run(WorldState(world), prefix)
        rt = decide(Ctx(world_run, host, world_run.ws.host(host.name)), q)
        taken = [choice.taken for choice in world_run.choices]
        for i in range(len(prefix), len(taken)):
            pending += [(*taken[:i], n) for n in range(1, len(world_run.choices[i].options))]
        yield predicted(rt, q), rt


def decide(ctx: Ctx, q: dict[str, Any]) -> routing.Rt:
    dst, src = parse_addr(q["dst"])[1], parse_addr(q.get("from", "0.0.0.0"))[1]
    proto = PROTO_NUMBER[q.get("ipproto", "udp")]
    if "iif" in q:
        skb = Skb(AF_INET, proto, src, dst)
        skb.mark, skb.tos, skb.sport, skb.dport = (
            q.get("mark", 0),
            q.get("tos", 0),
            q.get("sport", 0),
            q.get("dport", 0),
        )
        return routing.input(ctx, skb, q["iif"])
    return routing.output(
        ctx, family=AF_INET, dst=dst, src=src, oif=q.get("oif"), mark=q.get("mark", 0), tos=q.get("tos", 0),
        uid=q.get("uid", 0), proto=proto, sport=q.get("sport", 0), dport=q.get("dport", 0),
    )  # fmt: skip


def predicted(rt: routing.Rt, q: dict[str, Any]) -> tuple[Any, ...]:
    if rt.errno:
        return ("error", 22 if rt.errno == 18 else rt.errno)  # since 6.14 "ip route get" makes EINVAL of EXDEV
    gateway = format_addr(AF_INET, rt.gateway) if rt.gateway is not None else None
    prefsrc = None
    if "iif" not in q and rt.src != parse_addr(q.get("from", "0.0.0.0"))[1]:
        prefsrc = format_addr(AF_INET, rt.src)
    pathless = q["dst"] == "255.255.255.255" or rt.kind in ("local", "multicast")
    mtu = rt.route.mtu if rt.route is not None and not pathless else None
    if rt.route is not None and rt.route.nhid is not None:
        mtu = ANY  # routes that share a nexthop object share its cached dst, with the metrics of the first one used
    forwarded_broadcast = "iif" in q and rt.dev != "lo" and rt.route is not None and rt.route.type == "broadcast"
    return ("broadcast" if forwarded_broadcast else rt.kind, rt.dev, gateway, prefsrc, mtu)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SITUATIONS))
def test_decisions_are_those_of_the_kernel(namespace: str, seed: int, tmp_path: Path) -> None:
    situation = Situation(seed)
    writes = "".join(
        f"echo {s.partition('=')[2]} > /proc/sys/net/ipv4/conf/{s.partition('=')[0]}; " for s in situation.sysctl
    )
    subprocess.run(["ip", "netns", "exec", namespace, "sh", "-c", writes], check=True)
    ip("-force", "-batch", "-", stdin="\n".join(situation.batch))
    host = host_of(namespace, tmp_path)
    queries = situation.queries(QUERIES)
    wrong = []
    queries = [q for q in queries if "iif" not in q or host.links[q["iif"]].up]
    for q, answer in zip(queries, ask_kernel(queries), strict=True):
        results = list(possible(host, q))
        if not any(result == seen(answer, q) for result, _ in results):
            wrong.append(f"{q}\n  kernel {seen(answer, q)}\n  engine {results[0][0]} {results[0][1].text}"
                         f" {results[0][1].reason}")  # fmt: skip
    custom = has_custom_rules(host, AF_INET)
    assert not wrong, f"{len(wrong)} of {len(queries)} differ (custom rules: {custom}):\n" + "\n".join(wrong[:12])
