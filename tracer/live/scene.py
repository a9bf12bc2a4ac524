"""What is known about the watched namespaces besides their packets: names, devices, chains, taps, drop reasons, symbols.

A recording keeps this as JSON beside its events, so that a story can be told again where none of it exists.

    scene = Scene.of(session)
    scene.host(event["netns"]), scene.device(event["netns"], event["outdev"]), scene.symbol(event["aux"])
    Scene.from_json(scene.to_json())
"""

from __future__ import annotations

import bisect
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .nfnl.tracking import tracking_reason
from .plan import Chain

if TYPE_CHECKING:
    from .queue_session import QueueSession
    from .session import Session

ATTACHED = "attached"


class Tap(NamedTuple):
    """A place that is owed: ``prio`` where it sits (None: nowhere), ``after`` and ``before`` the chains around it."""

    netns: int
    pf: int
    hook: int
    wanted: int
    prio: int | None
    state: str
    after: tuple[Chain, ...] = ()
    before: tuple[Chain, ...] = ()
    note: str = ""

    @property
    def place(self) -> int:
        """Its priority, or the one it would have."""
        return self.wanted if self.prio is None else self.prio


@dataclass
class Scene:
    """See the module. ``tracking``: whether connection tracking was seen to be active when the watch began."""

    names: dict[int, str] = field(default_factory=dict)
    devices: dict[tuple[int, int], str] = field(default_factory=dict)
    taps: list[Tap] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    streams: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    tracking: dict[int, bool] = field(default_factory=dict)
    symbols: dict[int, str] = field(default_factory=dict)
    live: bool = False  # whether this machine may be asked for what is not known yet
    _tell_reasons: Callable[[], dict[int, str]] | None = field(default=None, repr=False)  # costs a walk over all types
    _spaces: dict[int, Any] = field(default_factory=dict, repr=False)
    _at: dict[tuple[int, int, int], list[Tap]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, session: Session | QueueSession) -> Scene:
        """Asks the namespaces of a session that is open."""
        scene = cls(
            _tell_reasons=session.reasons, streams=session.streams, missing=dict(session.missing), live=True,
            names={ns.inum: ns.name for ns in session.namespaces}, _spaces={ns.inum: ns for ns in session.namespaces},
        )  # fmt: skip
        for ns in session.namespaces:
            scene.tracking[ns.inum] = tracking_reason(ns) is not None
            scene._ask_devices(ns)
        scene.taps = [
            Tap(s.netns.inum, s.pf, s.hook, s.wanted, s.prio, s.state, s.after, s.before, s.note) for s in session.slots
        ]
        return scene

    def _ask_devices(self, ns: Any) -> None:
        with ns.inside():
            for number, name in socket.if_nameindex():
                self.devices[ns.inum, number] = name

    # --- looking up

    def host(self, inum: int) -> str:
        """The name a snapshot would give the namespace."""
        return self.names.get(inum, f"net-{inum}")

    def device(self, inum: int, number: int) -> str | None:
        """A device by its number, None for 0; one that came up meanwhile is asked for."""
        if not number:
            return None
        found = self.devices.get((inum, number))
        if found is None and self.live and inum in self._spaces:
            self._ask_devices(self._spaces[inum])
            found = self.devices.get((inum, number))
        return found or f"if{number}"

    def at(self, inum: int, pf: int, hook: int) -> list[Tap]:
        """The taps owed at a hook, in the order in which a packet meets them."""
        if not self._at:
            for tap in self.taps:
                self._at.setdefault((tap.netns, tap.pf, tap.hook), []).append(tap)
            for taps in self._at.values():
                taps.sort(key=lambda tap: tap.place)
        return self._at.get((inum, pf, hook), [])

    def chains(self, inum: int, pf: int, hook: int) -> list[Chain]:
        """The chains at a hook, in their order, as far as taps stand around them."""
        found = {chain for tap in self.at(inum, pf, hook) for chain in (*tap.after, *tap.before)}
        return sorted((c for c in found if c.hook == hook), key=lambda c: c.prio)

    def tracked(self, inum: int) -> bool:
        """Whether connection tracking is active; seen on any packet, it is."""
        return self.tracking.get(inum, False)

    def reason(self, number: int) -> str:
        """The name of a drop reason."""
        if not self.reasons and self._tell_reasons is not None:
            self.reasons, self._tell_reasons = self._tell_reasons(), None
        return self.reasons.get(number, f"reason {number}")

    def symbol(self, address: int) -> str:
        """``nft_do_chain+0x3e8`` of an address in the kernel; empty where the kernel does not tell."""
        if address and address not in self.symbols and self.live:
            self.symbols[address] = _kernel_symbol(address)
        return self.symbols.get(address, "")

    # --- JSON

    def to_json(self) -> dict[str, Any]:
        self.reason(0)
        return {
            "names": {str(k): v for k, v in self.names.items()},
            "devices": [[inum, number, name] for (inum, number), name in self.devices.items()],
            "taps": [[*t[:6], _plain(t.after), _plain(t.before), t.note] for t in self.taps],
            "reasons": {str(k): v for k, v in self.reasons.items()},
            "streams": list(self.streams), "missing": self.missing,
            "tracking": {str(k): v for k, v in self.tracking.items()},
            "symbols": {str(k): v for k, v in self.symbols.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scene:
        """Raises ValueError, KeyError, TypeError or AttributeError for what to_json() did not write."""
        scene = cls(
            names={int(k): str(v) for k, v in data["names"].items()},
            devices={(int(a), int(b)): str(name) for a, b, name in data["devices"]},
            reasons={int(k): str(v) for k, v in data["reasons"].items()},
            streams=tuple(str(s) for s in data["streams"]),
            missing={str(k): str(v) for k, v in data["missing"].items()},
            tracking={int(k): bool(v) for k, v in data["tracking"].items()},
            symbols={int(k): str(v) for k, v in data["symbols"].items()},
        )
        for netns, pf, hook, wanted, prio, state, after, before, note in data["taps"]:
            behind, front = (tuple(Chain(*_chain(c)) for c in chains) for chains in (after, before))
            where = None if prio is None else int(prio)
            scene.taps.append(
                Tap(int(netns), int(pf), int(hook), int(wanted), where, str(state), behind, front, str(note))
            )
        return scene


def _plain(chains: tuple[Chain, ...]) -> list[list[Any]]:
    return [[c.pf, c.hook, c.prio, c.table, c.name, c.kind] for c in chains]


def _chain(values: list[Any]) -> tuple[int, int, int, str, str, str]:
    pf, hook, prio, table, name, kind = values
    return int(pf), int(hook), int(prio), str(table), str(name), str(kind)


_table: tuple[list[int], list[str]] = ([], [])


def _kernel_symbol(address: int) -> str:
    """By /proc/kallsyms, read once; it shows zeros to those who may not know."""
    global _table
    if not _table[0]:
        found = []
        for line in Path("/proc/kallsyms").read_text().splitlines():
            words = line.split()
            if words[1] in "tTwW":
                found.append((int(words[0], 16), words[2]))
        found.sort()
        _table = ([a for a, _ in found] or [0], [n for _, n in found] or [""])
    addresses, names = _table
    at = bisect.bisect_right(addresses, address) - 1
    if at < 0 or not addresses[at]:
        return ""
    return f"{names[at]}+{address - addresses[at]:#x}"
