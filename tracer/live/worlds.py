"""What is known of the hosts that are watched: which namespaces they are, the flow in their terms, their snapshots.

A snapshot named with -S is used as it is; otherwise one is taken when an explanation first needs it, which only reads.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...sim.errors import InputError, MissingFacility, NattraceError
from ...sim.flow import Question, parse_flow
from ...sim.model.route import Link
from ...sim.model.world import Host, World
from ...sim.record import replace
from .. import scratch as scratches
from . import netns
from .netns import Namespace

if TYPE_CHECKING:
    from .story import Story
    from .surroundings import Way

KEPT = 10.0  # seconds a snapshot taken for explanations is good for


class Worlds:
    """``options``: of the command line; ``live``: whether this machine may be asked."""

    def __init__(self, options: dict[str, Any], live: bool = True) -> None:
        from ..cli.table import SINGLE_FILES

        singles = any(options.get(f"file_{kind.replace('-', '_')}") for kind in SINGLE_FILES)
        self.options, self.live = options, live
        self.given = options.get("snapshot") is not None or singles
        self._spaces: list[Namespace] = []
        self._world: World | None = None
        self._taken = 0.0
        self.way: Way | None = None  # how the namespaces were found, where nobody named them

    # --- which namespaces

    def spaces(self, flow: str, folder: Path | None = None) -> list[Namespace]:
        """--netns; else the hosts on the predicted path, of the snapshot or as they are now; without a flow this one.

        ``folder``: where the snapshot that is taken for it goes, to be kept; then a flow that is not understood is an
        error, otherwise this namespace is taken.
        """
        if self.options["netns"]:
            self._spaces = [netns.resolve(name) for name in self.options["netns"]]
            if self.options["lab"]:
                for ns in self._spaces:
                    ns.name = ns.name.removeprefix(f"{self.options['lab']}-")
        elif self.given and flow:
            self._spaces = self._predicted(flow)
        elif self.options["lab"]:
            self._spaces = self._of_lab(self.options["lab"])
        else:
            self._spaces = self._wired(flow, folder) if flow.strip() else [netns.current()]
        unique = {ns.inum: ns for ns in reversed(self._spaces)}
        self._spaces = [ns for ns in self._spaces if unique.get(ns.inum) is ns]
        return self._spaces

    def _wired(self, flow: str, folder: Path | None) -> list[Namespace]:
        """Those on the predicted path among what is wired together here; nothing is read where there is one only."""
        from .surroundings import around, on_path

        spaces = around(flow)
        if len(spaces) == 1 and folder is None:
            return spaces
        with tempfile.TemporaryDirectory(prefix=scratches.prefix()) as scratch:
            try:
                self.way = on_path(flow, spaces, folder or Path(scratch) / "now")
            except (NattraceError, OSError) as error:
                for ns in spaces:
                    ns.close()
                if folder is not None and isinstance(error, NattraceError):
                    raise
                return [netns.current()]
        self._world, self._taken = self.way.world, time.monotonic()
        return self.way.spaces

    def _of_lab(self, lab: str) -> list[Namespace]:
        found = [
            n for n in netns.names() if n.startswith(f"{lab}-") and n.removeprefix(f"{lab}-") not in ("edge", "wire")
        ]
        if not found:
            raise InputError(f"no lab {lab!r}", remedy="nattrace lab list")
        return [self._named(n, n.removeprefix(f"{lab}-")) for n in found]

    @staticmethod
    def _named(namespace: str, host: str) -> Namespace:
        ns = netns.by_name(namespace)
        ns.name = host
        return ns

    def _predicted(self, flow: str) -> list[Namespace]:
        from ...sim.explain.trial import attempt

        world = self.world()
        assert world is not None
        trial = attempt(world, understood(flow, world))
        hosts = dict.fromkeys(h.host for leaf in (trial.leaf, trial.back) if leaf is not None for h in leaf.hops)
        known, lab = netns.names(), self.options["lab"] or os.environ.get("NATTRACE_LAB", "")
        found = []
        for host in hosts:
            name = next((n for n in (f"{lab}-{host}", host) if n in known), None)
            if name is not None:
                found.append(self._named(name, host))
            elif host == os.uname().nodename or len(world.hosts) == 1:
                here = netns.current()
                here.name = host
                found.append(here)
        if not found:
            raise InputError(f"none of the hosts on the path ({', '.join(hosts)}) is a namespace of this machine",
                             remedy="--netns NAME, or --lab NAME for the hosts of a lab")  # fmt: skip
        return found

    # --- the flow

    def question(self, flow: str, spaces: list[Namespace]) -> Question | None:
        """FLOW as understood; addresses need not belong to anybody."""
        if not flow.strip():
            return None
        if self.given:
            world = self.world()
            assert world is not None
            return _any_id(understood(flow, world), flow)
        hosts = {ns.name: _outline(ns) for ns in spaces} or {"recording": Host("recording")}
        if len(hosts) > 1 and " at " not in f" {flow} ":
            first = next(iter(hosts))
            hosts = {first: hosts[first]}
        return _any_id(understood(flow, World(hosts)), flow)

    # --- snapshots

    def world(self) -> World | None:
        """The snapshot: given, or taken now; None where there is none and none can be taken."""
        from ..cli.world import load

        if self.given:
            if self._world is None:
                self._world = load(self.options)
            return self._world
        if not self.live or not self._spaces:
            return None
        if self._world is None or time.monotonic() - self._taken > KEPT:
            self._world, self._taken = self._capture(), time.monotonic()
        return self._world

    def know(self, world: World) -> None:
        """A snapshot of the namespaces that was just taken: no other one is."""
        self._world, self._taken = world, float("inf")

    def _capture(self) -> World | None:
        from ...sim.snapshot.load import load_world
        from ..capture import capture

        with tempfile.TemporaryDirectory(prefix=scratches.prefix()) as scratch:
            names = {self._as_asked(ns): ns.name for ns in self._spaces}
            try:
                capture(Path(scratch) / "now", list(names), names=names)
                return load_world(Path(scratch) / "now", strict=True)
            except (NattraceError, OSError):
                return None  # an explanation less, never a trace less

    @staticmethod
    def _as_asked(ns: Namespace) -> str:
        path = Path(ns.path)
        return (
            path.name
            if path.parent == netns.RUN_NETNS
            else path.parts[2]
            if path.parts[2] != "self"
            else str(os.getpid())
        )

    def explain(self, story: Story) -> Any:
        """Why it was dropped, through the snapshot; None for a packet that was not."""
        from .drops import explain_story

        if story.end.drop is None:
            return None
        world = self.world()
        host = world.hosts.get(str(story.end.at.get("host"))) if world is not None else None
        return explain_story(story, host)


def understood(flow: str, world: World) -> Question:
    """FLOW as everywhere, but any destination port where none is said: what is watched need not be one connection."""
    try:
        return parse_flow(flow, world)
    except InputError as error:
        if "needs a destination port" not in str(error):
            raise
        return parse_flow(f"{flow} dport 0", world)


def _any_id(question: Question, flow: str) -> Question:
    """The ICMP identifier that a question gets where none is said is not one to wait for."""
    if " id " in f" {flow} ":
        return question
    return replace(question, packet={k: v for k, v in question.packet.items() if k != "icmp_id"})


def _outline(ns: Namespace) -> Host:
    """Devices and users only: enough to understand a flow."""
    with ns.inside():
        links = {name: Link(name, number) for number, name in socket.if_nameindex()}
    import pwd

    return Host(
        ns.name, links=links, users={p.pw_name: p.pw_uid for p in pwd.getpwall()}, file_of={"passwd": "passwd.txt"}
    )


__all__ = ["MissingFacility", "Worlds"]
