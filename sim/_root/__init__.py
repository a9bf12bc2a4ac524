"""nattrace: why a packet goes where it goes through Linux netfilter, conntrack, NAT and routing.

    import nattrace as nt

    snap = nt.load("twice-through-conntrack")
    answer = snap.why("icmp 10.10.1.1 -> 8.8.8.8 at client")
    print(answer)                 # verdict, cause, path, fixes
    answer.steps                  # a DataFrame, where pandas is there
    snap.why("icmp 10.10.1.1 -> 8.8.8.8 at client", set=["net.ipv4.ip_forward=0 at proxy"])

Names are loaded when they are first used: ``import nattrace`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sim.errors import FlowError, InputError, MissingFacility, NattraceError, RuleError, SnapshotError
    from .sim.notebook import Result, Snapshot, load
    from .tracer.traces import Trace, load_trace

__version__ = "0.1.0"
__all__ = [
    "FlowError", "InputError", "MissingFacility", "NattraceError", "Result", "RuleError", "Snapshot", "SnapshotError", "Trace",
    "load", "load_trace",
]  # fmt: skip

_PLACES = {
    **dict.fromkeys(("Result", "Snapshot", "load"), ".sim.notebook"),
    **dict.fromkeys(("Trace", "load_trace"), ".tracer.traces"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nattrace' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES.get(name, ".sim.errors"), __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
