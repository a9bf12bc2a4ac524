"""The kernel as a judge: a case really sent through namespaces, captured at every interface."""

from __future__ import annotations

import copy
import time
from typing import Any

from lab_support import conntrack_entries, rule_counters, unique_prefix
from nattrace.tracer.lab.build import build
from nattrace.tracer.lab.io import Wires
from nattrace.tracer.lab.topology import from_data

from ..differential.compare import entry_key, merge_fragments
from ..differential.kernel import ARRIVALS, Final, KernelRun, Observation
from .evidence import Command, Do, Evidence, Packet
from .stages import STAGES


class StageRun(KernelRun):
    """The differential harness on a stage as it is: echo replies, redirects, rate limits and neighbour delays of real life."""

    def __init__(self, stage: str) -> None:
        data = copy.deepcopy(STAGES[stage].data)
        self.situation, self.with_counters, self.backends = {"topology": data}, False, {}
        self.start: float | None = None
        self.done: dict[int, Observation] = {}
        self.lab = build(from_data(data, stage), unique_prefix("sc"))
        try:
            self.lab.listen()
            self.wires = Wires(self.lab, arrivals=ARRIVALS)
        except BaseException:
            self.lab.down()
            raise


class Bench:
    """A stage built in namespaces, and what was seen of it."""

    def __init__(self, stage: str) -> None:
        self.kernel = StageRun(stage)
        self.evidence = Evidence()
        self.number = 0

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.kernel.close()

    @property
    def now(self) -> float:
        start = self.kernel.start
        return 0.0 if start is None else time.monotonic() - start

    def type(self, command: Command) -> None:
        self.kernel.lab.run(command.host, *command.text.split())

    def exchange(self, record: dict[str, Any]) -> tuple[Observation, Observation | None]:
        """Send a packet; give it the natural answer where nobody in the lab answers by himself."""
        first = self._step({"op": "send", "record": record})
        self.evidence.errnos.append(first.errno)
        back = None
        if any(f.main for f in first.finals) and not self.stack_answered(first):
            back = self._step({"op": "reply", "of": first.index})
            back = back if back.record is not None else None
        return first, back

    def _step(self, op: dict[str, Any]) -> Observation:
        observation = self.kernel.step(self.number, op)
        self.number += 1
        self.evidence.captures += captures(observation)
        return observation

    @staticmethod
    def stack_answered(observation: Observation) -> bool:
        """Whether a stack has answered: an echo reply, a reset, an ICMP error."""
        main = next((f for f in observation.finals if f.main), None)
        return main is not None and any(s.direction == "out" and s.host == main.host and s.packet["src"] == main.packet["dst"] for s in observation.seen)

    def finish(self) -> Evidence:
        for host in self.kernel.situation["topology"]["hosts"]:
            counters = rule_counters(self.kernel.lab, host)
            self.evidence.counters[host] = {(t, c, n): packets for (_, t, c, n), (packets, _) in counters.items() if n}
            self.evidence.entries[host] = [entry_key(e) for e in conntrack_entries(self.kernel.lab, host)]
        return self.evidence


def conntrack_of(bench: Bench, host: str) -> list[dict[str, Any]]:
    """A host's table as ``conntrack -L`` prints it, parsed."""
    return conntrack_entries(bench.kernel.lab, host)


def captures(observation: Observation) -> list[Final]:
    """Everything the taps saw, fragments put together."""
    return merge_fragments([Final(s.direction, s.host, s.dev, s.packet, True) for s in observation.seen])


def observe(stage: str, does: list[Do]) -> Evidence:
    """A whole case."""
    with Bench(stage) as bench:
        for step in does:
            if isinstance(step, Command):
                bench.type(step)
            elif isinstance(step, Packet):
                bench.exchange(step.record)
            else:
                time.sleep(step.seconds)
        return bench.finish()
