"""``nattrace confirm`` on the kernel: the five situations stage by stage, a matrix of what NAT and filters do, the command."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from lab_support import kernel
from nattrace.sim.errors import InputError
from nattrace.sim.render.schema import SCHEMAS
from nattrace.tracer.live import residue
from nattrace.tracer.live.bundle import replay
from nattrace.tracer.live.netns import Namespace
from nattrace.tracer.live.worlds import understood

from ..scenarios.cases import CASES
from ..scenarios.evidence import Case, Packet
from ..scenarios.observed import Bench
from .confirm_lab import spaces_of, watched, world_of
from .drops_cases import SILENCE, SILENT, _raw_syn, ip
from .drops_cases import tcp as tcp_header
from .drops_lab import Lab

pytestmark = kernel
PROGRAM = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()", "confirm"]
FIRST = {case.stage: case for case in reversed(CASES) if all(isinstance(step, Packet) for step in case.does)}


@pytest.mark.parametrize("case", FIRST.values(), ids=lambda c: c.stage)
def test_the_five_situations_are_confirmed(case: Case) -> None:
    with (
        Bench(case.stage) as bench,
        spaces_of({h.name: bench.lab.netns(h.name) for h in bench.lab.topology.hosts}) as spaces,
    ):
        world = world_of(spaces)
        sent = [dict(s.record) for s in case.does if isinstance(s, Packet)]
        seen = watched(spaces, lambda: [bench.exchange(record) for record in sent])
        made = case.stage != "private-namespace.no-route"  # there no packet is made, and its lookup is seen
        question = None if made else understood(f"{sent[0]['proto']} {sent[0]['dst']} at {sent[0]['host']}", world)
        report = seen.judged(world, question=question)
    assert report.verdict == "confirmed", report.render(160)
    assert sum(j.comparison is not None for j in report.judged) >= made
    assert made or "its lookup was seen: table main: no match" in report.text, report.text


# ------------------------------------------------------------------------------------------------ matrix

Act = Callable[[Lab], None]


def udp(dst: str = "10.7.2.2", port: int = 80, ttl: int = 64) -> Act:
    def act(lab: Lab) -> None:
        with (
            lab.at("c"),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):  # a lookup without route tells its sender's namespace
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            sock.bind(("10.7.1.2", 40001))
            try:
                sock.sendto(b"x", (dst, port))
            except OSError:
                pass  # a local drop is told to the sender

    return act


def tcp(dst: str = "10.7.2.2", port: int = 80) -> Act:
    def act(lab: Lab) -> None:
        with lab.socket("c", socket.AF_INET, socket.SOCK_STREAM, keep=False) as sock:
            sock.settimeout(0.3)
            sock.connect_ex((dst, port))

    return act


def twice(send: Callable[[int], Act]) -> Act:
    """Two connections whose tuples become one; nobody answers the first."""

    def act(lab: Lab) -> None:
        for port in (5001, 6000):
            send(port)(lab)
            time.sleep(0.05)

    return act


def syn_frame(port: int) -> Act:
    return lambda lab: lab.frame(ip(dst=SILENT) / tcp_header(sport=port, dport=25))


IPT = "iptables-nft"
FILL = "fill"
TRACKED = f"{IPT} -A OUTPUT -m conntrack --ctstate NEW -j ACCEPT"  # tracking is on where a rule asks for it
MATRIX: dict[str, tuple[str, list[str], Act]] = {
    "SNAT forwarded": ("r", [f"{IPT} -t nat -A POSTROUTING -o rs -j SNAT --to-source 10.7.2.1"], udp()),
    "SNAT local": ("c", [f"{IPT} -t nat -A POSTROUTING -p udp -j SNAT --to-source 10.7.1.2:5000-5010"], udp()),
    "DNAT forwarded": ("r", [f"{IPT} -t nat -A PREROUTING -p udp --dport 8080 -j DNAT --to 10.7.2.2:80"], udp("10.7.1.1", 8080)),
    "DNAT local": ("c", [f"{IPT} -t nat -A OUTPUT -p udp --dport 8080 -j DNAT --to 10.7.2.2:80"], udp("10.9.9.9", 8080)),
    "DNAT of a connection": ("r", [f"{IPT} -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to 10.7.2.2:80"], tcp("10.7.1.1", 8080)),
    "MASQUERADE forwarded": ("r", [f"{IPT} -t nat -A POSTROUTING -o rs -j MASQUERADE"], udp()),
    "MASQUERADE local": ("c", [f"{IPT} -t nat -A POSTROUTING -o c0 -j MASQUERADE"], udp()),
    "MASQUERADE --random": ("r", [f"{IPT} -t nat -A POSTROUTING -o rs -j MASQUERADE --random"], udp()),
    "REDIRECT forwarded": ("r", [f"{IPT} -t nat -A PREROUTING -p udp --dport 80 -j REDIRECT --to-ports 81"], udp()),
    "REDIRECT local": ("c", [f"{IPT} -t nat -A OUTPUT -p udp --dport 80 -j REDIRECT --to-ports 81"], udp()),
    "NETMAP forwarded": ("r", [f"{IPT} -t nat -A PREROUTING -d 10.8.2.0/24 -j NETMAP --to 10.7.2.0/24"], udp("10.8.2.2")),
    "NETMAP local": ("c", [f"{IPT} -t nat -A OUTPUT -d 10.8.2.0/24 -j NETMAP --to 10.7.2.0/24"], udp("10.8.2.2")),
    "hairpin": ("r", [f"{IPT} -t nat -A PREROUTING -p udp --dport 8080 -j DNAT --to 10.7.1.2:80",
                      f"{IPT} -t nat -A POSTROUTING -o rc -j MASQUERADE"], udp("10.7.1.1", 8080)),
    "notrack forwarded": ("r", [f"{IPT} -t raw -A PREROUTING -p udp -j CT --notrack", f"{IPT} -t nat -A POSTROUTING -j MASQUERADE"], udp()),
    "notrack local": ("c", [f"{IPT} -t raw -A OUTPUT -p udp -j CT --notrack", f"{IPT} -t nat -A POSTROUTING -j MASQUERADE"], udp()),
    "zone forwarded": ("r", [f"{IPT} -t raw -A PREROUTING -i rc -j CT --zone-orig 4", f"{IPT} -t nat -A POSTROUTING -o rs -j MASQUERADE"], udp()),
    "zone local": ("c", [f"{IPT} -t raw -A OUTPUT -j CT --zone 4", f"{IPT} -t nat -A POSTROUTING -j MASQUERADE"], udp()),
    "drop by a rule, forwarded": ("r", [f"{IPT} -A FORWARD -p udp -j DROP"], udp()),
    "drop by a rule, local": ("c", [f"{IPT} -A OUTPUT -p udp -j DROP"], udp()),
    "drop by policy, forwarded": ("r", [f"{IPT} -P FORWARD DROP"], udp()),
    "drop by policy, local": ("c", [f"{IPT} -P OUTPUT DROP"], udp()),
    "reject forwarded": ("r", [f"{IPT} -A FORWARD -p tcp -j REJECT --reject-with tcp-reset"], tcp()),
    "rp_filter": ("r", ["ip route add 10.7.1.2/32 via 10.7.2.2 dev rs table 9", "ip rule add to 10.7.1.2 lookup 9 priority 5",
                        "sysctl -qw net.ipv4.conf.rc.rp_filter=1"], udp()),
    "no route": ("r", ["ip route add unreachable 10.66.0.0/16"], udp("10.66.0.1")),
    "blackhole": ("r", ["ip route add blackhole 10.66.0.0/16"], udp("10.66.0.1")),
    "ttl": ("r", [], udp(ttl=1)),
    "ip_forward off": ("r", ["sysctl -qw net.ipv4.ip_forward=0"], udp()),
    "queue without listener, forwarded": ("r", [f"{IPT} -A FORWARD -p udp -j NFQUEUE --queue-num 77"], udp()),
    "queue with bypass": ("r", [f"{IPT} -A FORWARD -p udp -j NFQUEUE --queue-num 77 --queue-bypass"], udp()),
    "nobody listens": ("r", [], udp(port=4242)),
    "hairpin local": ("c", [f"{IPT} -t nat -A OUTPUT -p udp --dport 8080 -j DNAT --to 10.7.1.2:80"], udp("10.9.9.9", 8080)),
    "rp_filter, for the router itself": ("r", ["ip route add 10.7.1.2/32 via 10.7.2.2 dev rs table 9", "ip rule add to 10.7.1.2 lookup 9 priority 5",
                                               "sysctl -qw net.ipv4.conf.rc.rp_filter=1"], udp("10.7.1.1")),
    "no route at all": ("r", [], udp("10.66.0.1")),
    "no route, local": ("c", ["ip route add unreachable 10.66.0.0/16"], udp("10.66.0.1")),
    "ttl of a local rule": ("c", [f"{IPT} -t mangle -A OUTPUT -p udp -j TTL --ttl-set 1"], udp()),
    "queue without listener, local": ("c", [f"{IPT} -A OUTPUT -p udp -j NFQUEUE --queue-num 77"], udp()),
    "queue with bypass, local": ("c", [f"{IPT} -A OUTPUT -p udp -j NFQUEUE --queue-num 77 --queue-bypass"], udp()),
    "conntrack clash, forwarded": ("r", [f"{IPT} -t nat -A POSTROUTING -o rs -p tcp -j SNAT --to-source 10.7.2.1:25"], twice(syn_frame)),
    "conntrack clash, local": ("c", [f"{IPT} -t nat -A POSTROUTING -p tcp --dport 25 -j SNAT --to-source 10.7.1.2:25"], twice(_raw_syn)),
    "full table, forwarded": ("r", [TRACKED, FILL], udp()),
    "full table, local": ("c", [TRACKED, FILL], udp()),
}  # fmt: skip
UNDO = "\n".join(
    (
        "nft flush ruleset",
        "conntrack -F 2>/dev/null || true",
        "ip route flush table 9 2>/dev/null || true",
        "ip rule del priority 5 2>/dev/null || true",
        "for kind in unreachable blackhole; do ip route del $kind 10.66.0.0/16 2>/dev/null || true; done",
    )
)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Lab, list[Namespace]]]:
    lab = Lab()
    with ExitStack() as stack:
        stack.callback(lab.down)
        lab.up()
        lab.listen("s", "udp", 80)
        lab.listen("s", "tcp", 80)
        lab.listen("c", "udp", 80)
        lab.run("r", SILENCE.removeprefix("r: "))
        lab.run("r", "sysctl -qw net.ipv4.icmp_ratelimit=0")  # one cell is not to use up the errors of the next
        yield lab, stack.enter_context(spaces_of({h: lab.ns(h) for h in "crs"}))


@pytest.mark.parametrize("name", MATRIX)
def test_matrix(name: str, hosts: tuple[Lab, list[Namespace]]) -> None:
    lab, spaces = hosts
    host, rules, act = MATRIX[name]
    for each in "cr":
        lab.run(each, UNDO)
    lab.run("r", "sysctl -qw net.ipv4.conf.rc.rp_filter=0 net.ipv4.ip_forward=1")
    for rule in rules:
        lab.fill(host) if rule == FILL else lab.run(host, rule)
    world = world_of(spaces)
    question = understood("udp 10.66.0.1:80 at c", world) if name == "no route, local" else None
    report = watched(spaces, lambda: act(lab), 0.2).judged(world, question=question)
    assert report.verdict == "confirmed", report.render(160)


@pytest.mark.parametrize("host", ["c", "r"])
def test_a_program_takes_it_from_its_queue(host: str, hosts: tuple[Lab, list[Namespace]]) -> None:
    """What it does with it is not predicted: nothing behind the queue is a divergence, and the rest is open."""
    from netfilterqueue import NetfilterQueue

    lab, spaces = hosts
    for each in "cr":
        lab.run(each, UNDO)
    lab.run(host, f"{IPT} -t mangle -A {'OUTPUT' if host == 'c' else 'FORWARD'} -p udp -j NFQUEUE --queue-num 77")
    lab.run("r", f"{IPT} -t nat -A POSTROUTING -o rs -j MASQUERADE")
    with lab.at(host):
        queue = NetfilterQueue()
        queue.bind(77, lambda packet: packet.accept())
    try:
        world = world_of(spaces)
        assert world.hosts[host].meta["queues"] == [77]

        def act() -> None:
            udp()(lab)
            queue.run(block=False)

        report = watched(spaces, act).judged(world)
        assert report.verdict == "undecided" and "takes packets from the queue" in report.text, report.render(160)
        assert report.first is None
    finally:
        queue.unbind()


# --------------------------------------------------------------------------------------------- the command

SEND = "import socket\ns = socket.socket(2, 2)\ns.bind(('10.7.1.2', 40001))\ns.sendto(b'x', ('10.7.2.2', 80))"


def confirm(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    where = ["--lab", lab.prefix, *(w for h in "crs" for w in ("--netns", lab.ns(h)))]
    env = os.environ | {"COLUMNS": "100"}
    return subprocess.run([*PROGRAM, *where, *words], capture_output=True, text=True, timeout=60, env=env)


def test_the_command_and_its_bundle(hosts: tuple[Lab, list[Namespace]], tmp_path: Path) -> None:
    lab, _ = hosts
    for host in "cr":
        lab.run(host, UNDO)
    lab.run("r", f"{IPT} -t nat -A POSTROUTING -o rs -j MASQUERADE")
    flow, bundle = "udp 10.7.1.2:40001 -> 10.7.2.2:80 at c", str(tmp_path / "case.bundle")
    sending = ["--", "ip", "netns", "exec", lab.ns("c"), sys.executable, "-c", SEND]
    done = confirm(lab, flow, "--json", "--save", bundle, *sending)
    document = json.loads(done.stdout)
    Draft202012Validator(SCHEMAS["confirm"]()).validate(document)
    assert (done.returncode, document["verdict"], document["class"]) == (0, "confirmed", None), done.stderr
    again = replay(bundle)
    assert again.to_json() == document and os.stat(bundle).st_mode & 0o777 == 0o600
    text = subprocess.run([*PROGRAM, "-r", bundle], capture_output=True, text=True, timeout=30)
    assert (text.returncode, text.stdout[:10]) == (0, "CONFIRMED:")
    lab.run("r", "conntrack -F")
    assert residue.find() == []

    snapshot = str(tmp_path / "before")
    words = [w for h in "crs" for w in ("--netns", lab.ns(h))]
    subprocess.run([*PROGRAM[:-1], "snapshot", snapshot, *words], check=True, capture_output=True, timeout=30)
    lab.run("r", f"{IPT} -t nat -F")
    names = [w for h in "crs" for w in ("--netns", f"{lab.ns(h)}={lab.ns(h)}")]
    asked = [
        *PROGRAM,
        "-S",
        snapshot,
        *names,
        f"udp 10.7.1.2:40001 -> 10.7.2.2:80 at {lab.ns('c')}",
        "--json",
        *sending,
    ]
    stale = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    found = json.loads(stale.stdout)
    assert (stale.returncode, found["class"], found["first"]["stage"]) == (1, "rule_set_changed", "nat"), stale.stderr


def test_a_packet_that_is_never_made(hosts: tuple[Lab, list[Namespace]], tmp_path: Path) -> None:
    """No route: the lookup that found none confirms it. Nothing tried: nothing proves it."""
    lab, _ = hosts
    lab.run("c", "ip route del default")
    try:
        flow, bundle = "udp 10.7.1.2 -> 198.51.100.9:53 at c", str(tmp_path / "b")
        tried = "import socket\ntry: socket.socket(2, 2).sendto(b'x', ('198.51.100.9', 53))\nexcept OSError: pass"
        done = confirm(
            lab, flow, "--save", bundle, "--", "ip", "netns", "exec", lab.ns("c"), sys.executable, "-c", tried
        )
        said = " ".join(done.stdout.split())
        assert done.returncode == 0 and said.startswith("CONFIRMED: no packet was made at c, as predicted"), (
            said + done.stderr
        )
        assert "ENETUNREACH" in said and replay(bundle).status == 0
        idle = confirm(lab, flow, "-t", "300ms")
        assert idle.returncode == 4 and "nothing that was seen proves it" in " ".join(idle.stdout.split()), idle.stdout
    finally:
        lab.run("c", "ip route add default via 10.7.1.1")


def test_how_it_ends(hosts: tuple[Lab, list[Namespace]]) -> None:
    lab, _ = hosts
    flow = "udp 10.7.1.2 -> 10.7.2.2:80 at c"
    never = confirm(lab, flow, "-t", "300ms")
    assert (never.returncode, "[never_came]" in never.stdout.replace("\n", " ")) == (4, True), never.stderr
    assert confirm(lab, flow, "--probe").returncode == 2
    sent = confirm(lab, flow, "--probe", "--allow-changes")
    assert (sent.returncode, "sends from c" in sent.stderr) == (0, True), sent.stderr
    for words in ([], ["-r", "/nonexistent"], ["udp 1.2.3"]):
        done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=30)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["../x", "/etc/x", "snapshot/../../x", "events/x", "other"])
def test_a_strange_bundle_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "b"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(InputError):
        replay(path)
    link: Any = tarfile.TarInfo("meta.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(link)
    with pytest.raises(InputError):
        replay(path)
