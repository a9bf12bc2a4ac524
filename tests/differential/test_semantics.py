"""What the kernel is known to do, reproduced and compared: every case of ``cases`` with kernel and simulator."""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from lab_support import kernel

from . import cases
from .cases import Case
from .compare import show
from .kernel import KernelRun, Observation, Rejected
from .runner import Verdict, _compare_all, _simulator, tell_backend_order

pytestmark = kernel

MODULES = sorted(m.name for m in pkgutil.iter_modules(cases.__path__))
CASES: list[Case] = [case for name in MODULES for case in importlib.import_module(f"{cases.__name__}.{name}").CASES]


class Session:
    """One case: packets before the snapshot reach the kernel only, those after it both sides."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.situation = copy.deepcopy(case.situation())
        self.verdict = Verdict()
        self.seen: dict[int, Observation] = {}

    def run(self) -> Verdict:
        scratch = Path(tempfile.mkdtemp(prefix="nattrace-df-"))
        try:
            with KernelRun(self.situation) as lab:
                lab.step = self._watched(lab.step)  # type: ignore[method-assign]
                self._check_admitted()
                self._prologue(lab, scratch)
                simulator = _simulator(scratch, self.verdict)
                if simulator is not None:
                    tell_backend_order(lab, simulator)
                    _compare_all(lab, simulator, self.situation, self.verdict)
        except Rejected as error:
            self.verdict.kind, self.verdict.details = "rejected", [str(error)]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return self.verdict

    def _watched(self, step: Any) -> Any:
        def wrapper(index: int, op: dict[str, Any]) -> Observation:
            self.seen[index] = observation = step(index, op)
            return observation

        return wrapper

    def _check_admitted(self) -> None:
        for name, host in self.case.hosts.items():
            for key in ("iptables", "iptables-legacy"):
                refused = [line for line in host[key] if line not in self.situation["topology"]["hosts"][name][key]]
                assert not refused, f"{name} refuses {refused}"

    def _prologue(self, lab: KernelRun, scratch: Path) -> None:
        """What happens before the snapshot; its operations become "skip", so that numbers stay."""
        packets = self.situation["packets"]
        place = next((i for i, op in enumerate(packets) if op["op"] == "snapshot"), None)
        if place is None:
            lab.snapshot(scratch)
            return
        for index, op in enumerate(packets[:place]):
            lab.step(index, op)
        for name, *command in packets[place]["run"]:
            lab.lab.run(name, *command)
        for name, backends in lab.backends.items():
            for backend in backends:
                for table in ("raw", "mangle", "nat", "filter", "security"):
                    lab.lab.run(name, f"iptables-{backend}", "-t", table, "-Z", check=False)
        lab.lab.snapshot(scratch)
        lab.start = None
        self.situation["packets"] = [{"op": "skip"}] * (place + 1) + packets[place + 1 :]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name.replace(" ", "-"))
def test_kernel_and_simulator_agree(case: Case) -> None:
    session = Session(case)
    verdict = session.run()
    message = [f"packet {verdict.index}: {verdict.signature}", *verdict.details]
    if verdict.result:
        message += [
            f"record: {json.dumps(verdict.record)}",
            f"predicted: {verdict.result['outcome']} {verdict.result['reason']}",
        ]
    assert not verdict.kind, "\n".join(message)
    assert case.undecided or not verdict.unknowns, f"undecided: {dict(verdict.unknowns)}"
    for index, wanted in case.expect.items():
        observation = session.seen[index]
        ends = "; ".join(map(show, observation.finals)) or f"nothing, errno {observation.errno}"
        assert wanted in ends, f"packet {index}: the kernel did otherwise: {ends}"
