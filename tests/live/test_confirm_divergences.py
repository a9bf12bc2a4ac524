"""Deliberately broken models: a snapshot changed in one place must be found out at the right hook, with the right class."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lab_support import kernel
from nattrace.sim.model.rule import V_CONTINUE
from nattrace.sim.model.world import World
from nattrace.sim.snapshot.load import load_world
from nattrace.tracer.live.confirm import captured

from .confirm_lab import Watched, spaces_of, watched
from .drops_lab import Lab

pytestmark = kernel
RULES = (
    "ipset create bad hash:ip",
    "ipset add bad 10.7.1.2",
    "iptables-nft -t raw -A PREROUTING -j CT --zone 3",
    "iptables-nft -t mangle -A PREROUTING -i rc -j MARK --set-mark 0x7",
    "iptables-nft -t mangle -A FORWARD -p udp --dport 80 -j TTL --ttl-set 33",
    "iptables-nft -t nat -A PREROUTING -i rc -p udp --dport 8080 -j DNAT --to-destination 10.7.2.2:80",
    "iptables-nft -t nat -A POSTROUTING -o rs -j MASQUERADE",
    "iptables-nft -P FORWARD DROP",
    "iptables-nft -A FORWARD -p udp --dport 9998 -m set --match-set bad src -j DROP",
    "iptables-nft -A FORWARD -p udp --dport 9999 -j DROP",
    "iptables-nft -A FORWARD -p udp --dport 9990:9999 -j ACCEPT",
    "iptables-nft -A FORWARD -p udp --dport 80 -j ACCEPT",
    "iptables-nft -A FORWARD -d 198.51.100.1 -j ACCEPT",
    "ip route add 198.51.100.0/24 via 10.7.2.2 dev rs table 100",
    "ip rule add fwmark 0x7 lookup 100",
)
FLOWS = {"dnat": ("10.7.1.1", 8080, 0), "rule": ("10.7.2.2", 9999, 0), "set": ("10.7.2.2", 9998, 0),
         "policy": ("10.7.2.2", 7000, 0), "fwmark": ("198.51.100.1", 5, 0), "marked": ("10.7.1.1", 8080, 9)}  # fmt: skip
Edit = Callable[[Path], None]


class Divergence(NamedTuple):
    """``hook`` and ``stage``: where the first row that differs must be, at ``host``."""

    flow: str
    edit: Edit
    host: str
    hook: str | None
    stage: str
    name: str = "rule_set_changed"


def text(file: str, old: str, new: str) -> Edit:
    """One place of one file, by a regular expression."""

    def edit(home: Path) -> None:
        path = home / file
        changed, count = re.subn(old, new, path.read_text(), flags=re.M)
        assert count, f"{file} has no {old}"
        path.write_text(changed)

    return edit


def objects(file: str, change: Callable[[dict[str, object]], dict[str, object] | None]) -> Edit:
    """Each object of a JSON file changed, or (None) left out."""

    def edit(home: Path) -> None:
        before = json.loads((home / file).read_text())
        after = [x for x in map(change, [dict(o) for o in before]) if x is not None]
        assert after != before, file
        (home / file).write_text(json.dumps(after))

    return edit


def renamed(home: Path) -> None:
    for file in (*(home / "r").glob("*.json"), home / "snapshot.json"):
        file.write_text(file.read_text().replace('"rc"', '"rc9"').replace('"r:rc"', '"r:rc9"'))


RULESET = "r/iptables-save.txt"
NAT_PRE, NAT_POST, FILTER = ("r", "PREROUTING", "nat"), ("r", "POSTROUTING", "nat"), ("r", "FORWARD", "filter")
MANGLE, TTL, TRACK = ("r", "PREROUTING", "mangle"), ("r", "FORWARD", "mangle"), ("r", "PREROUTING", "conntrack")
DIVERGENCES = {
    "DNAT rule deleted": Divergence("dnat", text(RULESET, r"^.*-j DNAT.*\n", ""), *NAT_PRE),
    "DNAT address changed": Divergence("dnat", text(RULESET, r"10\.7\.2\.2:80", "10.7.2.3:80"), *NAT_PRE),
    "DNAT port changed": Divergence("dnat", text(RULESET, r"10\.7\.2\.2:80", "10.7.2.2:81"), *NAT_PRE),
    "DNAT rule for another port": Divergence("dnat", text(RULESET, "--dport 8080", "--dport 8081"), *NAT_PRE),
    "DNAT became REDIRECT": Divergence("dnat", text(RULESET, r"-j DNAT.*$", "-j REDIRECT --to-ports 80"), *NAT_PRE),
    "MASQUERADE deleted": Divergence("dnat", text(RULESET, r"^.*-j MASQUERADE\n", ""), *NAT_POST),
    "MASQUERADE became SNAT": Divergence("dnat", text(RULESET, "-j MASQUERADE", "-j SNAT --to-source 10.7.2.77"), *NAT_POST),
    "MASQUERADE with ports": Divergence("dnat", text(RULESET, "-j MASQUERADE", "-p udp -j MASQUERADE --to-ports 5000-5001"), *NAT_POST),
    "mark changed": Divergence("dnat", text(RULESET, "--set-xmark 0x7/", "--set-xmark 0x8/"), *MANGLE),
    "mark rule deleted": Divergence("dnat", text(RULESET, r"^.*-j MARK.*\n", ""), *MANGLE),
    "ttl rule deleted": Divergence("dnat", text(RULESET, r"^.*-j TTL.*\n", ""), *TTL),
    "ttl changed": Divergence("dnat", text(RULESET, "--ttl-set 33", "--ttl-set 34"), *TTL),
    "zone changed": Divergence("dnat", text(RULESET, "--zone 3", "--zone 4"), *TRACK),
    "zone rule deleted": Divergence("dnat", text(RULESET, r"^.*--zone 3\n", ""), *TRACK),
    "zone became notrack": Divergence("dnat", text(RULESET, "--zone 3", "--notrack"), *TRACK),
    "drop rule deleted": Divergence("rule", text(RULESET, r"^.*--dport 9999 -j DROP\n", ""), *FILTER),
    "drop rule added": Divergence("dnat", text(RULESET, r"^(.*)(-A FORWARD -p udp -m udp --dport 80 -j )ACCEPT", r"\1\2DROP"), *FILTER),
    "rules reordered": Divergence("rule", text(RULESET, r"^(.*--dport 9999 -j DROP\n)(.*9990:9999.*\n)", r"\2\1"), *FILTER),
    "set emptied": Divergence("set", text("r/ipset.txt", r"^add bad.*\n", ""), *FILTER),
    "policy changed": Divergence("policy", text(RULESET, r"^:FORWARD DROP", ":FORWARD ACCEPT"), *FILTER),
    "accept rule deleted": Divergence("dnat", text(RULESET, r"^.*-A FORWARD -p udp -m udp --dport 80 -j ACCEPT\n", ""), *FILTER),
    "ip_forward flipped": Divergence("dnat", text("r/sysctl.txt", r"^(net\.ipv4\.(ip_forward|conf\.\S+\.forwarding)) = 1", r"\1 = 0"), "r", None, "forward"),
    "policy rule removed": Divergence("fwmark", objects("r/rule.json", lambda o: None if "fwmark" in o else o), "r", None, "routing"),
    "route of another device": Divergence("fwmark", objects("r/route.json", lambda o: o | {"gateway": "10.7.1.2", "dev": "rc"} if o.get("table") == "100" else o),
                                          "r", None, "routing"),
    "route became a blackhole": Divergence("fwmark", objects("r/route.json", lambda o: {"type": "blackhole", "dst": o["dst"], "table": "100", "flags": []}
                                                             if o.get("table") == "100" else o), "r", None, "routing"),
    "interface renamed": Divergence("dnat", renamed, "r", None, "path"),
    "mark from elsewhere": Divergence("marked", lambda home: None, "c", "OUTPUT", "start", "mark_from_elsewhere"),
}  # fmt: skip


class Seen(NamedTuple):
    """What was seen of one flow, and the snapshot before."""

    watched: Watched
    home: Path
    world: World


def send(lab: Lab, dst: str, port: int, mark: int = 0) -> None:
    sock = lab.socket("c", socket.AF_INET, socket.SOCK_DGRAM, keep=False)
    with sock:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sock.bind(("10.7.1.2", 0))
        sock.sendto(b"x", (dst, port))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Seen]]:
    lab, found = Lab(), {}
    with ExitStack() as stack:
        stack.callback(lab.down)
        lab.up()
        for rule in RULES:
            lab.run("r", rule)
        lab.listen("s", "udp", 80)
        spaces = stack.enter_context(spaces_of({h: lab.ns(h) for h in "crs"}))
        home = tmp_path_factory.mktemp("before") / "s"
        world = captured(home, spaces)
        for name, (dst, port, mark) in FLOWS.items():
            found[name] = Seen(watched(spaces, lambda: send(lab, dst, port, mark)), home, world)  # noqa: B023 - runs at once
        yield found


@pytest.mark.parametrize("flow", [f for f in FLOWS if f != "marked"])
def test_the_true_model_is_confirmed(flow: str, seen: dict[str, Seen]) -> None:
    one = seen[flow]
    report = one.watched.judged(one.world, one.world)
    assert (report.verdict, report.status) == ("confirmed", 0), report.render(160)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_broken_model_is_found_out(name: str, seen: dict[str, Seen], tmp_path: Path) -> None:
    case = DIVERGENCES[name]
    one = seen[case.flow]
    shutil.copytree(one.home, tmp_path / "s")
    case.edit(tmp_path / "s")
    report = one.watched.judged(load_world(tmp_path / "s", strict=True), one.world)
    assert report.first is not None and report.finding is not None, report.render(160)
    row = report.first[1]
    assert (row.host, row.hook, row.stage) == (case.host, case.hook, case.stage), report.render(160)
    assert (report.verdict, report.status, report.finding.name) == ("disagrees", 1, case.name), report.render(160)


# The snapshot is right, and the simulator is not: one of its functions does something else.
WRONG: dict[str, tuple[str, str, str, Any, tuple[str, str | None, str]]] = {
    "MASQUERADE takes another address": ("dnat", "engine.nat", "_masquerade_address", lambda ctx, skb, out: 0x0A070257, NAT_POST),
    "DNAT is forgotten": ("dnat", "targets.dnat.Dnat", "apply", lambda self, skb, ctx: V_CONTINUE, NAT_PRE),
    "a mark is one more": ("dnat", "targets.mark.Mark", "apply", lambda self, skb, ctx: setattr(skb, "mark", 8) or V_CONTINUE, MANGLE),
    "a TTL is not set": ("dnat", "targets.ttl.Ttl", "apply", lambda self, skb, ctx: V_CONTINUE, TTL),
    "a zone is not set": ("dnat", "targets.ct.Ct", "apply", lambda self, skb, ctx: V_CONTINUE, TRACK),
    "a set holds nobody": ("set", "matches.set_.Set", "test", lambda self, skb, ctx: False, FILTER),
    "no policy rule but the first": ("fwmark", "engine.fib_rules", "rule_matches", lambda ctx, rule, flow: rule.priority in (0, 32766),
                                     ("r", None, "routing")),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_simulator_is_found_out(name: str, seen: dict[str, Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    flow, owner, function, instead, place = WRONG[name]
    one = seen[flow]
    monkeypatch.setattr(f"nattrace.sim.{owner}.{function}", instead)
    report = one.watched.judged(one.world, one.world)
    assert report.first is not None and report.finding is not None, report.render(160)
    row = report.first[1]
    assert (row.host, row.hook, row.stage) == place, report.render(160)
    assert (report.verdict, report.status, report.finding.name) == ("disagrees", 1, "model_wrong"), report.render(160)
    monkeypatch.undo()
    assert one.watched.judged(one.world, one.world).verdict == "confirmed"


def test_entries(tmp_path: Path) -> None:
    """An entry that was there before, and one that the snapshot has and the kernel has not any more."""
    lab = Lab()
    with ExitStack() as stack:
        stack.callback(lab.down)
        lab.up()
        lab.run("r", "iptables-nft -t nat -A POSTROUTING -o rs -j MASQUERADE")
        server = lab.listen("s", "udp", 80)
        spaces = stack.enter_context(spaces_of({h: lab.ns(h) for h in "crs"}))
        sock = lab.socket("c", socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("10.7.1.2", 40009))
        before = captured(tmp_path / "before", spaces)
        sock.sendto(b"x", ("10.7.2.2", 80))
        server.sendto(b"y", server.recvfrom(9)[1])
        time.sleep(0.05)
        with_entry = captured(tmp_path / "after", spaces)
        again = watched(spaces, lambda: sock.sendto(b"x", ("10.7.2.2", 80)))
        assert again.judged(with_entry, with_entry).verdict == "confirmed", again.judged(with_entry).render(160)
        report = again.judged(before, with_entry)
        assert report.finding is not None and report.first is not None
        assert (report.finding.name, report.first[1].stage) == ("entry_existed", "conntrack"), report.render(160)
        lab.run("r", "conntrack -F")
        anew = watched(spaces, lambda: sock.sendto(b"x", ("10.7.2.2", 80)))
        report = anew.judged(with_entry, before)
        assert report.finding is not None and report.first is not None
        assert (report.finding.name, report.first[1].stage) == ("entry_gone", "conntrack"), report.render(160)


OTHER = {
    "legacy": "iptables-legacy -A FORWARD -p udp --dport 80 -j DROP",
    "native nft": "nft 'add table ip own; add chain ip own c { type filter hook forward priority 5; }; add rule ip own c udp dport 80 drop'",
}


@pytest.mark.parametrize("name", OTHER)
def test_a_chain_that_the_snapshot_lacks(name: str, tmp_path: Path) -> None:
    lab = Lab()
    with ExitStack() as stack:
        stack.callback(lab.down)
        lab.up()
        lab.run("r", "iptables-nft -A FORWARD -p udp --dport 81 -j DROP")
        lab.listen("s", "udp", 80)
        spaces = stack.enter_context(spaces_of({h: lab.ns(h) for h in "crs"}))
        before = captured(tmp_path / "before", spaces)
        lab.run("r", OTHER[name])
        found = watched(spaces, lambda: send(lab, "10.7.2.2", 80))
        report = found.judged(before, captured(tmp_path / "after", spaces))
        assert report.finding is not None and report.first is not None
        assert (report.first[1].host, report.first[1].hook, report.finding.name) == ("r", "FORWARD", "other_table"), (
            report.render(160)
        )
