"""The simulator as a judge: a case played on the stage's bundled snapshot."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from nattrace.sim.engine.play import Answer, natural_reply
from nattrace.sim.engine.simulate import Simulator, injection_of, plain, result_json
from nattrace.sim.explain.whatif import ConntrackFlush, Edit, PolicyRuleEdit, RouteEdit, RuleEdit, SetSysctl
from nattrace.sim.model.conntrack import ConntrackTable
from nattrace.sim.model.result import Hop, Leaf
from nattrace.sim.model.world import World
from nattrace.sim.snapshot.load import load_world

from ..differential.compare import ARRIVALS, conn_key
from ..differential.kernel import Final
from .evidence import Command, Do, Evidence, Packet

SNAPSHOTS = Path(__file__).resolve().parents[2] / "sim" / "snapshots"


@cache
def world_of(stage: str) -> World:
    """A bundled snapshot; worlds are immutable, so one reading serves all cases."""
    return load_world(SNAPSHOTS / stage)


def edit_of(command: Command) -> Edit:
    """A typed command as a what-if edit."""
    words = command.text.split()
    if words[0] == "iptables":
        return RuleEdit(command.host, " ".join(words[1:]))
    if words[:2] == ["sysctl", "-w"]:
        name, _, value = words[2].partition("=")
        return SetSysctl(command.host, name, value)
    if words[:2] == ["ip", "route"]:
        return RouteEdit(command.host, " ".join(words[3:]), words[2])
    if words[:2] == ["ip", "rule"]:
        return PolicyRuleEdit(command.host, " ".join(words[3:]), words[2])
    if words == ["conntrack", "-F"]:
        return ConntrackFlush(command.host)
    raise ValueError(f"no what-if for {command.text!r}")


class Prediction:
    """A stage being played: packets in, evidence out."""

    def __init__(self, stage: str) -> None:
        self.simulator = Simulator(world_of(stage))
        self.evidence = Evidence(results=[])

    def type(self, command: Command) -> None:
        """Change the configuration; what the hosts remember stays."""
        self.evidence.story += f"\n$ {command.text}   # on {command.host}\n"
        edit = edit_of(command)
        if isinstance(edit, ConntrackFlush):
            for _, state in self.simulator.worlds:
                state.host(command.host).ct = ConntrackTable()
            return
        world = edit.apply(self.simulator.world)
        old = self.simulator
        self.simulator = Simulator(world)
        for _, state in old.worlds:
            for name in old.world.hosts:
                state.host(name)  # made from the old configuration before it is replaced
            state.world = world
        self.simulator.worlds = old.worlds

    def pass_time(self, seconds: float) -> None:
        for _, state in self.simulator.worlds:
            state.now += seconds

    def send(self, record: dict[str, Any], observed: dict[str, Any] | None = None) -> tuple[Answer, dict[str, Any]]:
        """One packet without its answer."""
        answer = self.simulator.ask(injection_of(self.simulator.world, record), observed)
        return answer, result_json(answer)

    def exchange(
        self, record: dict[str, Any], observed: dict[str, Any] | None = None, answer_too: bool = True
    ) -> dict[str, Any]:
        """One packet and its natural answer, written down."""
        record = {"at": self.simulator.state.now, **record}
        answer, result = self.send(record, observed)
        self.note(answer, result)
        result["reply"] = None
        reply = natural_reply(self.simulator.world, answer.main) if answer_too else None
        if reply is not None:
            self.simulator.worlds = [(1.0, answer.main.state)]
            back = self.simulator.ask(reply._replace(at=self.simulator.state.now))
            result["reply"] = result_json(back)
            self.note(back, result["reply"], "reply")
        assert self.evidence.results is not None
        self.evidence.results.append(result)
        self.evidence.errnos.append(result["errno"])
        return result

    def note(self, answer: Answer, result: dict[str, Any], title: str = "packet") -> None:
        """Captures of a walk, its errors and their ways."""
        leaf = answer.main
        self.evidence.captures += walk(leaf.hops, leaf.outcome, leaf.at, leaf)
        for response in leaf.responses:
            self.evidence.captures += walk(response.hops, response.outcome, response.at or {}, leaf)
        self.evidence.story += story(result, title)

    def finish(self) -> Evidence:
        state = self.simulator.state
        for host in self.simulator.world.hosts:
            counters = self.simulator.counters(host)
            self.evidence.counters[host] = {(r.table, r.chain, r.index): n for r, (n, _) in counters.items() if r.index}
            self.evidence.entries[host] = [conn_key(c, state.known) for c in self.simulator.conntrack(host)]
        return self.evidence


def predict(stage: str, does: list[Do]) -> Evidence:
    """A whole case."""
    prediction = Prediction(stage)
    for step in does:
        if isinstance(step, Command):
            prediction.type(step)
        elif isinstance(step, Packet):
            prediction.exchange(step.record)
        else:
            prediction.pass_time(step.seconds)
    return prediction.finish()


def walk(hops: list[Hop] | tuple[Hop, ...], outcome: str, at: dict[str, Any], leaf: Leaf) -> list[Final]:
    """What captures would show along a way: before the first hook and after the last one."""
    out: list[Final] = []
    for number, hop in enumerate(hops):
        if hop.in_dev:
            out.append(Final("in", hop.host, hop.in_dev, plain(hop.before, leaf.state), True))
        went = number < len(hops) - 1 or outcome == "left"
        if hop.out_dev and went:
            out.append(Final("out", hop.host, hop.out_dev, plain(hop.after, leaf.state), True))
    if hops and outcome == "delivered":
        packet = plain(hops[-1].after, leaf.state)
        if packet["proto"] in ("icmp", "tcp", "udp") and ARRIVALS:
            out.append(Final("arrived", at.get("host", hops[-1].host), at.get("interface") or "", packet, True))
    return out


def story(result: dict[str, Any], title: str) -> str:
    """A result as a trace for a failing test."""
    out = [
        f"\n{title}: {result['outcome']} ({result['certainty']}) at {result['at']} [{result['reason']['code']}] {result['reason']['text']}"
    ]
    for hop in result["hops"]:
        b, a = hop["before"], hop["after"]
        out.append(
            f"  {hop['host']}  {hop['in'] or '(local)'} → {hop['out'] or '-'}   {b['src']} → {b['dst']}  ⇒  {a['src']} → {a['dst']}"
        )
        for s in hop["steps"]:
            rule = f" {s['rule']} {s['text']}" if s["rule"] else f" {s['text'] or ''}"
            out.append(
                f"      {s['hook'] or '':<12}{s['stage']:<10}{rule} {s['conntrack'] or ''} {s['verdict'] or ''} {s['note'] or ''}".rstrip()
            )
    for r in result["responses"]:
        out.append(f"  {r['kind']} {r['type']}/{r['code']} from {r['from']} to {r['to']}: {r['outcome']}")
    return "\n".join(out) + "\n"
