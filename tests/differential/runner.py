"""One situation, kernel and simulator side by side: packet by packet, the first difference ends it."""

from __future__ import annotations

import copy
import shutil
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from .compare import compare, conntrack_diff, counters_diff, observed_of
from .kernel import KernelRun, Observation, Rejected

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
                _compare_all(kernel, simulator, situation, verdict)
    finally:
        if keep is None:
            shutil.rmtree(scratch, ignore_errors=True)
    return verdict


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
        observation = kernel.step(index, op)
        if observation.record is None:
            continue
        verdict.index, verdict.record, verdict.observation = index, observation.record, observation
        try:
            result, certainty = ask(simulator, observation)
        except Exception as error:
            verdict.kind, verdict.details = f"crash {type(error).__name__}", [_short(error)]
            return
        verdict.result = result
        verdict.stats[certainty] += 1
        verdict.stats[f"{certainty}: {result.get('outcome')}"] += 1
        if certainty == "unknown":
            verdict.unknowns[result["reason"]["text"][:100]] += 1
        if "is not in the snapshot" in (result.get("reason") or {}).get("text", ""):
            verdict.stats["left undecided by the snapshot"] += 1
            return  # whether a module handles the protocol: no dump says it
        if observation.endless:
            verdict.stats["circulates without end"] += 1
            if not loops(result):
                verdict.kind, verdict.details = "packet", ["endless: predicted to end, in the kernel it circulates"]
            return  # the lab is cut to pieces now
        if kernel.impatient():
            break  # what was seen just now may be a SYN that was sent again
        if at_silent_listener(observation, result, situation["topology"]["hosts"]):
            verdict.stats["ended at a silent listener"] += 1
            return  # its SYN was swallowed: the kernel has no such connection, where a real listener would have one
        details = compare(observation, result)
        if details:
            verdict.kind, verdict.details = "packet", details
            return
        for host, counters in observation.counters.items():
            _touch(verdict, situation, host, counters, kernel.done, index)
            details = counters_diff(counters, simulator.counters(host))
            if details:
                verdict.kind, verdict.details = "counter", [f"{host}: {d}" for d in details]
                return
    if kernel.impatient():
        verdict.stats["cut short: a connect() would send again"] += 1
        return
    _compare_conntrack(kernel, simulator, verdict)


def at_silent_listener(observation: Observation, result: dict[str, Any], hosts: dict[str, Any]) -> bool:
    """Whether a segment was sent to a connection that a swallowed SYN would have opened, and was reset."""
    mains = [f for f in observation.finals if f.main and f.kind == "arrived" and f.packet.get("proto") in ("tcp", 6)]
    if not mains or not (result.get("reason") or {}).get("text", "").startswith("delivered to its connection"):
        return False
    record, arrived = observation.record or {}, mains[-1].packet
    listens = hosts[mains[-1].host].get("listen", ())
    if not any(x.startswith("tcp") and x.endswith((f" {arrived['dport']}", f":{arrived['dport']}")) for x in listens):
        return False
    return record.get("flags") != "S" and any(
        "R" in f.packet.get("flags", "")
        and (f.packet.get("tcp_seq"), f.packet.get("tcp_ack"))
        in ((arrived.get("tcp_ack"), 0), (0, arrived.get("tcp_seq")))
        for f in observation.finals
        if not f.main
    )


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
    return result, certainty


def _compare_conntrack(kernel: KernelRun, simulator: Any, verdict: Verdict) -> None:
    import time

    if kernel.start is None:
        return
    for host, entries in kernel.conntrack().items():
        now = time.monotonic() - kernel.start
        try:
            conns = simulator.conntrack(host)
            details = conntrack_diff(entries, conns, simulator.state.known, now)
        except Exception as error:
            verdict.kind, verdict.details = f"crash {type(error).__name__}", [_short(error)]
            return
        if details:
            verdict.kind, verdict.details = "conntrack", [f"{host}: {d}" for d in details]
            return


def _touch(
    verdict: Verdict,
    situation: dict[str, Any],
    host: str,
    counters: dict[Any, Any],
    done: dict[int, Observation],
    index: int,
) -> None:
    """Coverage: a rule is hit when its counter moved; missed when a later rule or the policy of its chain moved."""
    previous: dict[Any, Any] = {}
    for earlier in range(index - 1, -1, -1):
        if earlier in done and host in done[earlier].counters:
            previous = done[earlier].counters[host]
            break
    texts = rule_texts(situation["topology"]["hosts"][host])
    moved = {k for k, v in counters.items() if v != previous.get(k, (0, 0))}
    deepest: dict[Any, int] = {}
    for backend, table, chain, number in moved:
        place = 10**6 if number == 0 else number
        deepest[backend, table, chain] = max(deepest.get((backend, table, chain), 0), place)
    for key in counters:
        backend, table, chain, number = key
        if not number:
            continue
        hit = key in moved
        if not hit and deepest.get((backend, table, chain), 0) < number:
            continue
        for name in names_of(texts.get((backend, table, chain, number), "")):
            verdict.touched[f"{name}|{'hit' if hit else 'miss'}"] += 1
        verdict.touched[
            f"chain {table}:{chain if not chain.startswith('U') else 'user'}|{'hit' if hit else 'miss'}"
        ] += 1


def rule_texts(host: dict[str, Any]) -> dict[tuple[str, str, str, int], str]:
    """(backend, table, chain, number) → the rule as it was written."""
    out = {}
    numbers: Counter[Any] = Counter()
    for key, backend in (("iptables", "nft"), ("iptables-legacy", "legacy")):
        for line in host.get(key, ()):
            words = line.split()
            if "-A" not in words:
                continue
            table, chain = words[words.index("-t") + 1], words[words.index("-A") + 1]
            numbers[backend, table, chain] += 1
            out[backend, table, chain, numbers[backend, table, chain]] = line
    return out


def names_of(text: str) -> list[str]:
    """Matches and targets of a rule."""
    words = text.split()
    out = []
    for word, following in pairwise(words):
        if word == "-m":
            out.append(f"match {following}")
        elif word == "-p":
            out.append(f"proto {following}")
        elif word in ("-s", "-d", "-i", "-o"):
            out.append(f"match {word}")
        elif word in ("-j", "-g"):
            name = "user chain" if following[:1] == "U" and following[1:].isdigit() else following
            out.append(f"target {name}{' (goto)' if word == '-g' else ''}")
    return out
