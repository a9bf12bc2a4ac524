"""One situation, kernel and simulator side by side: packet by packet, the first difference ends it."""

from __future__ import annotations

import copy
import shutil
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import coverage
from .compare import compare, conntrack_diff, counters_diff, observed_of
from .kernel import Final, KernelRun, Observation, Rejected

STRIP = ("ip_id",)  # keys of ours that the contract's records do not have
STATS = ("exact", "one_of", "unknown")


@dataclass(slots=True)
class Verdict:
    """What a run found. ``kind``: "" (agreed), "rejected", "crash …", "packet", "counter", "conntrack", "load …"."""

    kind: str = ""
    index: int = -1
    details: list[str] = field(default_factory=list)
    record: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    stats: Counter[str] = field(default_factory=Counter)
    unknowns: Counter[str] = field(default_factory=Counter)
    touched: Counter[str] = field(default_factory=Counter)
    observation: Observation | None = None

    @property
    def signature(self) -> str:
        """The class of a failure, for shrinking and for counting: what differs, without the values."""
        if not self.details:
            return self.kind
        head = self.details[0]
        words = head.split(": predicted")[0].split("not predicted")[0].split("predicted")[0]
        words = " ".join(w for w in words.split() if not any(c.isdigit() for c in w))
        reason = ((self.result or {}).get("reason") or {}).get("code", "")
        return f"{self.kind} | {words.strip()} | {reason}"


def run(situation: dict[str, Any], every: int = 1, keep: Path | None = None) -> Verdict:
    """Build, send, compare. ``every``: compare counters after each n-th packet. ``keep``: leave the snapshot there."""
    verdict = Verdict()
    try:
        kernel = KernelRun(situation)
    except Rejected as error:
        return Verdict("rejected", details=[str(error)])
    scratch = keep or Path(tempfile.mkdtemp(prefix="nattrace-df-"))
    try:
        with kernel:
            kernel.snapshot(scratch)
            simulator = _simulator(scratch, verdict)
            if simulator is not None:
                tell_backend_order(kernel, simulator)
                _compare_all(kernel, simulator, situation, verdict)
    finally:
        if keep is None:
            shutil.rmtree(scratch, ignore_errors=True)
    return verdict


def tell_backend_order(kernel: KernelRun, simulator: Any) -> None:
    """The laboratory loads iptables-legacy last, so it runs first at equal priority; no dump says so."""
    for name, backends in kernel.backends.items():
        if len(backends) > 1:
            for _, state in simulator.worlds:
                state.host(name).misc[str(("backend order", name))] = True


def _simulator(snapshot: Path, verdict: Verdict) -> Any:
    try:
        from nattrace.sim.engine.simulate import Simulator
        from nattrace.sim.snapshot.load import load_world

        return Simulator(load_world(snapshot))
    except Exception as error:
        verdict.kind, verdict.details = f"load {type(error).__name__}", [_short(error)]
        return None


def _short(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300]} at {Path(frame.filename).name}:{frame.lineno} {frame.name}"


def _compare_all(kernel: KernelRun, simulator: Any, situation: dict[str, Any], verdict: Verdict) -> None:
    for index, op in enumerate(situation["packets"]):
        if kernel.impatient():
            break
        if kernel.wires.astray:
            verdict.stats["ended: a connect() chose another address than its datagram had"] += 1
            break
        observation = kernel.step(index, op)
        learn_sequence(observation)
        if observation.record is None:
            verdict.stats["operations that could not be made"] += op["op"] not in ("wait", "skip")
            continue
        verdict.index, verdict.record, verdict.observation = index, observation.record, observation
        try:
            with coverage.watching() as looked_up:
                result, certainty = ask(simulator, observation)
        except Exception as error:
            verdict.kind, verdict.details = f"crash {type(error).__name__}", [_short(error)]
            return
        verdict.result = result
        verdict.stats[certainty] += 1
        verdict.stats[f"{certainty}: {result.get('outcome')}"] += 1
        if certainty == "unknown":
            verdict.unknowns[result["reason"]["text"][:100]] += 1
        if certainty != "exact" and "is not in the snapshot" in (result.get("reason") or {}).get("text", ""):
            verdict.stats["left undecided by the snapshot"] += 1
            return  # whether a module handles the protocol: no dump says it
        if observation.endless:
            verdict.stats["circulates without end"] += 1
            if certainty != "unknown" and not loops(result):
                verdict.kind, verdict.details = "packet", ["endless: predicted to end, in the kernel it circulates"]
            return  # the lab is cut to pieces now
        if kernel.impatient():
            break  # what was seen just now may be a SYN that was sent again
        if at_silent_listener(observation, result, kernel.done):
            verdict.stats["ended at a silent listener"] += 1
            return  # its SYN was swallowed: the kernel has no such connection, where a real listener would have one
        if certainty == "unknown" and (result.get("reason") or {}).get("code") == "too_many_worlds":
            verdict.stats["ended at an unknown answer"] += 1
            return  # what is listed is not all that can be
        details = compare(observation, result)
        if details:
            verdict.kind, verdict.details = "packet", details
            return
        if certainty == "unknown":
            verdict.stats["ended at an unknown answer"] += 1
            return  # which of its branches is real nobody can tell from outside
        for host, counters in observation.counters.items():
            details = counters_diff(counters, simulator.counters(host))
            if details:
                verdict.kind, verdict.details = "counter", [f"{host}: {d}" for d in details]
                return
        _touch(verdict, situation["topology"]["hosts"], observation, kernel.done, looked_up)
    if kernel.impatient():
        verdict.stats["cut short: a connect() would send again"] += 1
        return
    _compare_conntrack(kernel, simulator, verdict)


def learn_sequence(observation: Observation) -> None:
    """A connect() whose SYN no tap saw: the reset that came instead tells its sequence number."""
    record = observation.record or {}
    if record.get("in") is None and record.get("proto") == "tcp" and record["flags"] == "S" and "tcp_seq" not in record:
        for final in observation.finals:
            if final.packet.get("flags") == "RA":
                record["tcp_seq"] = final.packet["tcp_ack"] - 1


def at_silent_listener(observation: Observation, result: dict[str, Any], done: dict[int, Observation]) -> bool:
    """Whether a segment was sent to a connection that a swallowed SYN would have opened, and was reset."""
    mains = [f for f in observation.finals if f.main and f.kind == "arrived" and f.packet.get("proto") in ("tcp", 6)]
    if not mains or not (result.get("reason") or {}).get("text", "").startswith("delivered to its connection"):
        return False
    arrived = mains[-1].packet
    if arrived.get("flags") == "S" or not swallowed(mains[-1], done):
        return False
    return any(
        "R" in f.packet.get("flags", "")
        and (f.packet.get("tcp_seq"), f.packet.get("tcp_ack"))
        in ((arrived.get("tcp_ack"), 0), (0, arrived.get("tcp_seq")))
        for f in observation.finals
        if not f.main
    )


def swallowed(segment: Final, done: dict[int, Observation]) -> bool:
    """Whether a SYN of the segment's connection arrived earlier, and nothing answered it."""
    flow = ("src", "dst", "sport", "dport")
    for earlier in done.values():
        for final in earlier.finals:
            same = final.kind == "arrived" and final.host == segment.host and final.packet.get("flags") == "S"
            if same and all(final.packet.get(k) == segment.packet.get(k) for k in flow):
                return not any(not f.main and "R" in f.packet.get("flags", "") for f in earlier.finals)
    return False


def loops(result: dict[str, Any]) -> bool:
    """Whether the packet, an answer or a copy is said to go round for ever."""
    parts = [result, *result.get("outcomes", ()), *result.get("responses", ()), *result.get("copies", ())]
    return any(part.get("outcome") == "looped" for part in parts)


def ask(simulator: Any, observation: Observation) -> tuple[dict[str, Any], str]:
    """Feed the packet. First without saying what happened: if the answer is a set, again with the observation, so
    that the simulator goes on in the world that is real. Returns the first answer."""
    record = {
        k: v for k, v in (observation.record or {}).items() if (k not in STRIP and v is not None) or k in ("in", "src")
    }
    record["at"] = observation.at
    if "inner" in record:
        del record["payload"]
    if isinstance(record.get("inner"), dict):
        record["inner"] = {k: v for k, v in record["inner"].items() if k not in STRIP and v is not None}
    before = list(simulator.worlds)
    twin = copy.copy(simulator)
    twin.worlds = [(weight, state.fork()) for weight, state in before]
    result = twin.feed(record)
    certainty = result["certainty"]
    if certainty == "exact":
        simulator.worlds, simulator.lost = twin.worlds, twin.lost
        return result, certainty
    simulator.feed({**record, "observed": observed_of(observation, result)})
    keep_fitting(simulator, observation)
    return result, certainty


def keep_fitting(simulator: Any, observation: Observation) -> None:
    """Of the worlds that the observation leaves, go on in those whose rules counted what the kernel's did."""
    if len(simulator.worlds) < 2:
        return
    fit = [
        (weight, state)
        for weight, state in simulator.worlds
        if all(not counters_diff(c, dict(state.host(h).counters)) for h, c in observation.counters.items())
    ]
    total = sum(weight or 0.0 for weight, _ in fit)
    if fit:
        simulator.worlds = [(weight / total if weight and total else weight, state) for weight, state in fit]


def _compare_conntrack(kernel: KernelRun, simulator: Any, verdict: Verdict) -> None:
    import time

    if kernel.start is None:
        return
    worlds = list(simulator.worlds)
    for host, entries in kernel.conntrack().items():
        now = time.monotonic() - kernel.start
        found: list[list[str]] = []
        for world in worlds:  # those that nothing seen so far tells apart: one of them is real
            simulator.worlds = [world]
            try:
                found.append(conntrack_diff(entries, simulator.conntrack(host), simulator.state.known, now))
            except Exception as error:
                verdict.kind, verdict.details = f"crash {type(error).__name__}", [_short(error)]
                return
        if all(found):
            verdict.kind, verdict.details = "conntrack", [f"{host}: {d}" for d in min(found, key=len)]
            return


def _touch(verdict: Verdict, hosts: dict[str, Any], observation: Observation, done: dict[int, Observation],
           looked_up: coverage.Lookups) -> None:  # fmt: skip
    """Coverage of a packet on which both sides agreed."""
    for host, counters in observation.counters.items():
        earlier = (done[i].counters[host] for i in sorted(done, reverse=True) if i < observation.index)
        coverage.rules(verdict.touched, hosts[host], counters, next(earlier, {}))
    verdict.touched.update(looked_up.found)
    coverage.passage(verdict.touched, verdict.result or {}, hosts)
