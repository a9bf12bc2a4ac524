"""``nattrace confirm``: predict, observe the real packets, and say hook by hook whether the kernel agreed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...sim.errors import InputError, NattraceError
from ...sim.explain.trial import Trial, attempt
from ...sim.record import replace
from ...sim.render.style import Style, wants_colour, width_of
from ...sim.snapshot.load import bundled, load_world
from .. import scratch as scratches
from . import netns, run
from .bundle import replay, save
from .flow import FlowKey
from .recording import read
from .report import Report, assess
from .trace import Replay, Tracer
from .worlds import Worlds, understood

if TYPE_CHECKING:
    import subprocess

    from ...sim.flow import Question
    from ...sim.model.world import World
    from .netns import Namespace
    from .rule_steps import Rules

QUIET_AFTER = 1.0  # seconds without a further packet end a run that has neither command, count nor time
INTERRUPTED = 130


def confirm(flow: str, command: list[str], options: dict[str, Any]) -> int:
    """Returns the exit status."""
    if options["read"]:
        if command or options["netns"] or flow:
            raise InputError("-r judges a bundle again: it watches nothing and runs nothing")
        return _told(replay(options["read"]), options)
    if not flow.strip():
        raise InputError("which flow?", remedy="nattrace confirm 'icmp 10.0.0.2 -> 8.8.8.8' -- ping -c1 8.8.8.8")
    if options["probe"] and not options["allow_changes"]:
        raise InputError("--probe sends a packet", remedy="add --allow-changes")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=scratches.prefix())))
        return _confirm(stack, scratch, flow, command, options)


def _confirm(stack: ExitStack, scratch: Path, flow: str, command: list[str], options: dict[str, Any]) -> int:
    worlds = Worlds(options)
    snapshot = _given(options) if worlds.given else None
    before = scratch / "before"
    spaces = [stack.enter_context(ns) for ns in _spaces(worlds, flow, options, before)]
    run._say_where(worlds, options)
    stop = stack.enter_context(run._signals())
    if worlds.given:
        world = worlds.world()
        assert world is not None
    elif worlds.way is not None:
        snapshot, world, flow = before, worlds.way.world, worlds.way.flow
    else:
        snapshot, world = before, captured(before, spaces)
    question = understood(flow, world)
    trial = attempt(world, question)
    record = scratch / "events"
    asked = _any(question, flow)
    if trial.leaf is not None and trial.leaf.outcome == "never_sent":  # its lookup is made before there is a source
        asked = replace(asked, packet={k: v for k, v in asked.packet.items() if k not in ("src", "sport")})
    wanted = run.filter_of(asked, options | {"iface": None, "mark": None, "uid": None, "expression": None}, spaces)
    rules = _rules(worlds, world, spaces, question, trial, options) if options["rules"] else None
    _observe(spaces, question, wanted, str(record), command, options, stop, rules)
    told = Replay(read(record), "this run")
    stories = told.stories()
    evidence = rules.evidence(stories) if rules is not None else None
    now = _Now(scratch / "now", spaces)
    hosts = _path(trial)
    report = assess(flow, world, question, stories, told.scene, told.totals(), now, hosts, evidence,
                    told.recording.events)  # fmt: skip
    if options["save"]:
        now()
        save(options["save"], flow, _folder(snapshot, scratch), record, now.folder, report, hosts, evidence)
    status = _told(report, options)
    if options["verbose"]:
        run._residue(spaces)
    return INTERRUPTED if stop.signal else status


def _given(options: dict[str, Any]) -> Path | None:
    path = options.get("snapshot")
    if path is None:
        return None
    return bundled(str(path)) or Path(path)


def _folder(snapshot: Path | None, scratch: Path) -> Path:
    """A snapshot as a directory, for a bundle."""
    if snapshot is None:
        raise InputError(
            "--save needs a whole snapshot", remedy="name one with -S, or none at all: then this host is read"
        )
    if snapshot.is_dir():
        return snapshot
    if not snapshot.name.endswith((".tar", ".tar.gz", ".tgz", ".zip")):
        raise InputError(f"--save: {snapshot} is no snapshot directory or archive")
    from ...sim.snapshot.source import open_source

    target, source = scratch / "unpacked", open_source(snapshot)
    for name in source.names():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(source.read(name))
    return target


def captured(target: Path, spaces: list[Namespace]) -> World:
    """These namespaces as they are now, under the names they have here."""
    from ..capture import capture

    names = {Worlds._as_asked(ns): ns.name for ns in spaces}
    capture(target, list(names), names=names)
    return load_world(target, strict=True)


class _Now:
    """The hosts as they are afterwards; read when something asks, once."""

    def __init__(self, target: Path, spaces: list[Namespace]) -> None:
        self.target, self.spaces, self.folder = target, spaces, None
        self.world: World | None = None

    folder: Path | None

    def __call__(self) -> World | None:
        if self.folder is None:
            try:
                self.world = captured(self.target, self.spaces)
            except (NattraceError, OSError) as error:
                run._say(f"the hosts could not be read again: {error}")
                shutil.rmtree(self.target, ignore_errors=True)
                return None
            self.folder = self.target
        return self.world


def _spaces(worlds: Worlds, flow: str, options: dict[str, Any], folder: Path | None = None) -> list[Namespace]:
    """``--netns HOST=NAME`` says which host of the snapshot a namespace is."""
    asked = [word.rpartition("=") for word in options["netns"]]
    if not any(equals for _, equals, _ in asked):
        found = worlds.spaces(flow, folder)
    else:
        found = []
        for host, _, name in asked:
            ns = netns.resolve(name)
            ns.name = host or (ns.name.removeprefix(f"{options['lab']}-") if options["lab"] else ns.name)
            found.append(ns)
        worlds._spaces = found
    if worlds.given:
        _known(worlds, found)
    return found


def _known(worlds: Worlds, spaces: list[Namespace]) -> None:
    """Every namespace is a host of the snapshot: by its name, behind a lab's prefix, or as the only one."""
    world = worlds.world()
    assert world is not None
    for ns in spaces:
        if ns.name in world.hosts:
            continue
        behind = [host for host in world.hosts if ns.name.endswith(f"-{host}")]
        if len(behind) == 1:
            ns.name = behind[0]
        elif len(world.hosts) == 1 and len(spaces) == 1:
            ns.name = next(iter(world.hosts))
        else:
            choices = ", ".join(world.hosts)
            raise InputError(
                f"which host of the snapshot is the namespace {ns.name}?",
                remedy=f"--netns HOST={ns.name}; hosts: {choices}",
            )


def _any(question: Question, flow: str) -> Question:
    from .worlds import _any_id

    return _any_id(question, flow)


def _rules(worlds: Worlds, world: World, spaces: list[Namespace], question: Question, trial: Trial,
           options: dict[str, Any]) -> Rules:  # fmt: skip
    """Which rules match is told too: for the flow, and for what NAT is predicted to make of it."""
    from .rule_steps import Rules

    worlds.know(world)
    return Rules(spaces, _any(question, question.flow()), options, worlds, _tuples(trial))


def _tuples(trial: Trial) -> list[FlowKey]:
    """The flow as each host is predicted to see it, in both directions; the sender's port stays open."""
    found: dict[FlowKey, None] = {}
    for hop in trial.leaf.hops if trial.leaf is not None else ():
        for head in (hop.before, hop.after):
            src, dst, port = (head.get(k) for k in ("src", "dst", "dport")) if head else (None, None, None)
            if not isinstance(src, str) or not isinstance(dst, str):
                continue
            key = FlowKey.parse(head["proto"], src, dst, None, port if isinstance(port, int) and port else None)
            found |= {key: None, key.reversed(): None}
    return list(found)


def _path(trial: Trial) -> tuple[str, ...]:
    return tuple(dict.fromkeys(h.host for leaf in (trial.leaf, trial.back) if leaf is not None for h in leaf.hops))


# --------------------------------------------------------------------------------------------- observing


def _observe(spaces: list[Namespace], question: Question, wanted: Any, record: str, command: list[str], options: dict[str, Any],
             stop: run.Stop, rules: Rules | None = None) -> None:  # fmt: skip
    """Until the command, the count, the time or the user ends it."""
    with rules or nullcontext(), Tracer(spaces, wanted, record) as tracer:
        run._say_unobservable(tracer, options)
        if options["ready_file"]:
            Path(options["ready_file"]).write_text(f"{os.getpid()}\n")
        if options["probe"]:
            from .probe import send

            send(question, spaces, run._say)
        child = run._start(command)
        try:
            _wait(tracer, child, options, stop, bool(command), rules)
        finally:
            run._end(child)
        tracer.finish()
        if rules is not None:
            rules.read()


def _wait(tracer: Tracer, child: subprocess.Popen[bytes] | None, options: dict[str, Any], stop: run.Stop, ran: bool,
          rules: Rules | None = None) -> None:  # fmt: skip
    until = time.monotonic() + (options["duration"] or (10.0 if options["probe"] else 1e9))
    gone = last = 0.0
    told = 0
    while not stop.signal and time.monotonic() < until:
        found = len(tracer.poll(run.TICK))
        if rules is not None:
            rules.read()
        told, last = told + found, time.monotonic() if found or tracer.waiting() else last
        if options["count"] and told >= options["count"]:
            return
        if child is not None and child.poll() is not None and not gone:
            gone = time.monotonic()
            run._say(f"the command ended with status {child.returncode}")
        if gone and time.monotonic() - gone > run.AFTER_COMMAND and not tracer.waiting():
            return
        open_end = not ran and not options["count"] and (options["probe"] or not options["duration"])
        if open_end and told and time.monotonic() - last > QUIET_AFTER:
            return
        if len(tracer.session.vanished()) == len(tracer.spaces):
            run._say("the namespace that was watched is gone")
            return


def _told(report: Report, options: dict[str, Any]) -> int:
    if options["as_json"]:
        from ..cli.world import print_json

        print_json(report.to_json())
    else:
        style = Style(wants_colour(sys.stdout))
        sys.stdout.write(report.render(width_of(sys.stdout), style, options["verbose"], options["quiet"]))
    sys.stdout.flush()
    return report.status
