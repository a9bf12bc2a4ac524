"""Kernel and simulator side by side: a case sent for real, every capture, errno, counter and entry compared."""

from __future__ import annotations

import time
from typing import Any

from ..differential.compare import conntrack_diff, match_finals, observed_of
from ..differential.kernel import Final, Observation
from .evidence import Command, Do, Evidence, Packet, line
from .observed import Bench, captures, stack_answered
from .predicted import Prediction

STRIP = ("ip_id", "id")


def run(bench: Bench, prediction: Prediction, does: list[Do]) -> tuple[Evidence, list[str]]:
    """What the kernel did, and where the simulator differs."""
    differences: list[str] = []
    for number, step in enumerate(does):
        if isinstance(step, Command):
            bench.type(step)
            prediction.type(step)
        elif isinstance(step, Packet):
            found = exchange(bench, prediction, step.record)
            differences += [f"step {number}: {text}" for text in found]
        else:
            time.sleep(step.seconds)
            prediction.pass_time(step.seconds)
        if differences:
            break
    evidence, simulated, now = bench.finish(), prediction.finish(), bench.now
    evidence.story = simulated.story
    return evidence, differences or after(bench, prediction, now)


def exchange(bench: Bench, prediction: Prediction, record: dict[str, Any]) -> list[str]:
    """One packet and its answer on both sides."""
    first, back = bench.exchange(dict(record))
    found = feed(prediction, first, answer_too=stack_answered(first))
    if not found and back is not None:
        found = [f"answer: {text}" for text in feed(prediction, back, answer_too=False)]
    return found


def feed(prediction: Prediction, observation: Observation, answer_too: bool) -> list[str]:
    """Give the simulator what was really sent. First without saying what became of it, so that a drawn value is compared
    with its candidates; then with it, so that what follows is played in the world that is real."""
    record = {
        k: v for k, v in (observation.record or {}).items() if k not in STRIP and (v is not None or k in ("in", "src"))
    }
    record["at"] = observation.at
    worlds = [(weight, state.fork()) for weight, state in prediction.simulator.worlds]
    blind, result = play(prediction, record, None, answer_too)
    found = compare(blind, observation)
    if result["errno"] != observation.errno and not hidden(record, result, observation):
        found.append(f"errno: predicted {result['errno']}, kernel {observation.errno}")
    if result["certainty"] == "unknown":
        found.append(f"undecided: {result['reason']['text']}")
    if not found and result["certainty"] == "one_of":
        prediction.simulator.worlds = worlds
        pinned, _ = play(prediction, record, observed_of(observation, result), answer_too)
        found = [f"drawn value told: {text}" for text in compare(pinned, observation)]
    return found


def hidden(record: dict[str, Any], result: dict[str, Any], observation: Observation) -> bool:
    """An error that connect() hides, or that comes later through the socket."""
    quiet = observation.errno is None
    return quiet and (
        result["outcome"] == "unreachable" or (record.get("proto") == "tcp" and result["outcome"] != "never_sent")
    )


def play(
    prediction: Prediction, record: dict[str, Any], observed: dict[str, Any] | None, answer_too: bool
) -> tuple[list[Final], dict[str, Any]]:
    """The captures that the simulator expects."""
    before = len(prediction.evidence.captures)
    result = prediction.exchange(record, observed, answer_too)
    return prediction.evidence.captures[before:], result


def compare(predicted: list[Final], observation: Observation) -> list[str]:
    """Every capture at every interface, and what was delivered: both multisets are equal."""
    real = captures(observation)
    out = match_finals(predicted, real)
    if out:
        out += ["predicted:", *(f"  {line(f)}" for f in predicted), "kernel:", *(f"  {line(f)}" for f in real)]
    return out


def after(bench: Bench, prediction: Prediction, now: float) -> list[str]:
    """Rule counters and conntrack tables at the end."""
    out: list[str] = []
    for host in prediction.simulator.world.hosts:
        counters = bench.evidence.counters.get(host, {})
        predicted = prediction.evidence.counters[host]
        for rule in counters.keys() | predicted.keys():
            if counters.get(rule, 0) != predicted.get(rule, 0):
                out.append(
                    f"{host} counter {':'.join(map(str, rule))}: predicted {predicted.get(rule, 0)}, kernel {counters.get(rule, 0)}"
                )
        conns = prediction.simulator.conntrack(host)
        found = conntrack_diff(bench.tables.get(host, []), conns, prediction.simulator.state.known, now)
        out += [f"{host} {text}" for text in found]
    return out
