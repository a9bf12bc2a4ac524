"""``nattrace trace`` itself: options to a tracer, its stories to whoever asked, an end in good order."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...sim.errors import InputError, MissingFacility
from ...sim.flow import Question
from ...sim.render.style import clean
from . import netns
from .filter import Filter, Term
from .output import Output
from .worlds import Worlds

if TYPE_CHECKING:
    from .netns import Namespace
    from .queue_session import QueueSession
    from .story import Story
    from .trace import Tracer

TICK = 0.1
AFTER_COMMAND = 0.4  # seconds in which what a command caused may still come
OK, UNDECIDED, INTERRUPTED = 0, 4, 130


def run(flow: str, command: list[str], options: dict[str, Any]) -> int:
    """Returns the exit status."""
    if options["read"]:
        return _replay(flow, command, options)
    if options["step"] and options["tap"] != "queue":
        raise InputError("--step holds packets in a queue", remedy="add --tap queue --allow-changes")
    worlds = Worlds(options)
    with ExitStack() as stack:
        spaces = [stack.enter_context(ns) for ns in worlds.spaces(flow)]
        _say_where(worlds, options)
        question = worlds.question(flow, spaces)
        wanted = filter_of(question, options, spaces)
        stop = stack.enter_context(_signals())
        if options["tap"] == "queue":
            from .flow import FlowKey
            from .queue_session import QueueSession

            key = FlowKey.of_question(question)._replace(iif=None) if question is not None else None
            allowed = bool(options["allow_changes"])
            session = QueueSession(spaces, key, hold=bool(options["step"]), allow_changes=allowed)
            if options["step"]:
                from .queue_trace import run_step

                return run_step(session, options, lambda: _start(command), stop)
            for line in session.changes():
                _say(f"changes while it runs: {line}")
            return _watch(stack, spaces, question, wanted, command, options, worlds, stop, session)
        return _watch(stack, spaces, question, wanted, command, options, worlds, stop)


class Stop:
    """Whether a signal said that it is enough."""

    signal: int = 0


@contextmanager
def _signals() -> Iterator[Stop]:
    """SIGINT and SIGTERM end the loop in good order; a second one ends it at once."""
    stop = Stop()

    def note(number: int, _: Any) -> None:
        if stop.signal:
            raise KeyboardInterrupt
        stop.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ------------------------------------------------------------------------------------------------- filter


def filter_of(question: Question | None, options: dict[str, Any], spaces: list[Namespace]) -> Filter:
    """What FLOW and the other options ask of a packet."""
    wanted = Filter.everything()
    iface = options["iface"]
    if question is not None:
        packet = question.packet
        icmp = packet["proto"] in ("icmp", "icmpv6")
        wanted = Filter.of(packet["proto"], packet.get("src"), packet["dst"], None if icmp else packet.get("sport"),
                           packet.get("dport") or None)  # fmt: skip
        said = question.in_dev and not any(d.startswith(f"in {question.in_dev}:") for d in question.derived)
        iface = iface or (question.in_dev if said else None)
        if packet.get("mark") and not options["mark"]:
            wanted = replace(wanted, mark=(int(packet["mark"]), 0xFFFFFFFF))
        if packet.get("uid") is not None and not options["uid"]:
            wanted = replace(wanted, uid=int(packet["uid"]))
    if iface:
        wanted = replace(wanted, ifindex=_ifindex(iface, spaces))
    if options["mark"]:
        wanted = replace(wanted, mark=_mark(options["mark"]))
    if options["uid"]:
        wanted = replace(wanted, uid=_uid(options["uid"]))
    if options["expression"]:
        wanted = replace(wanted, pcap=options["expression"])
    return wanted


def _ifindex(name: str, spaces: list[Namespace]) -> int:
    import socket

    known: list[str] = []
    for ns in spaces:
        with ns.inside():
            devices = {device: number for number, device in socket.if_nameindex()}
        if name in devices:
            return devices[name]
        known += devices
    raise InputError(f"no device {name!r}", remedy=f"there are: {', '.join(dict.fromkeys(known))}")


def _mark(text: str) -> tuple[int, int]:
    value, _, mask = text.partition("/")
    try:
        found = int(value, 0), int(mask, 0) if mask else 0xFFFFFFFF
    except ValueError:
        raise InputError(f"--mark {text!r}: expected N or N/MASK", remedy="--mark 0x7 or --mark 0x10/0xf0") from None
    if not all(0 <= v < 1 << 32 for v in found):
        raise InputError(f"--mark {text!r}: a mark has 32 bits")
    return found


def _uid(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise InputError(f"no user {text!r}") from None


# ------------------------------------------------------------------------------------------------ watching


def _watch(stack: ExitStack, spaces: list[Namespace], question: Question | None, wanted: Filter, command: list[str],
           options: dict[str, Any], worlds: Worlds, stop: Stop, session: QueueSession | None = None) -> int:  # fmt: skip
    from .rule_steps import Rules
    from .trace import Tracer

    inner = stack.enter_context(ExitStack())
    rules = inner.enter_context(Rules(spaces, question, options, worlds)) if options["rules"] else None
    tracer = inner.enter_context(Tracer(spaces, wanted, options["output"], session=session))
    out = inner.enter_context(Output(options, tracer.scene, worlds, len(spaces)))
    _say_unobservable(tracer, options)
    if options["ready_file"]:
        Path(options["ready_file"]).write_text(f"{os.getpid()}\n")
    child = _start(command)
    try:
        told, lossy = _loop(tracer, out, rules, child, options, stop)
    finally:
        _end(child)
    totals = tracer.totals() | ({"rules": rules.totals()} if rules is not None else {})
    out.totals(totals)
    inner.close()
    if options["verbose"]:
        _residue(spaces)
    if stop.signal:
        return INTERRUPTED
    return OK if told and not lossy else UNDECIDED


def _loop(tracer: Tracer, out: Output, rules: Any, child: subprocess.Popen[bytes] | None, options: dict[str, Any],
          stop: Stop) -> tuple[int, bool]:  # fmt: skip
    """Until the time, the count, the command or the user ends it: (packets told, whether one is incomplete by a loss)."""
    limit = options["count"] or 1 << 60
    until = time.monotonic() + (options["duration"] or 1e9)
    told, lossy = 0, False

    def tell(found: list[Story]) -> bool:
        nonlocal told, lossy
        for story in found:
            if told >= limit:
                return True
            if rules is not None:
                rules.into(story)
            told += 1
            lossy |= any("lost" in text for text in story.incomplete)
            out.story(story)
        return told >= limit

    gone = 0.0
    while not stop.signal and time.monotonic() < until:
        if tell(tracer.poll(TICK)):
            break
        if rules is not None:
            rules.read()
        if child is not None and child.poll() is not None and not gone:
            gone = time.monotonic()
            _say(f"the command ended with status {child.returncode}")
        if gone and time.monotonic() - gone > AFTER_COMMAND and not tracer.waiting():
            break
        if tracer.session.vanished() and len(tracer.session.vanished()) == len(tracer.spaces):
            _say("the namespace that was watched is gone")
            break
    if told < limit:
        if rules is not None:
            rules.read()
        tell(tracer.finish())
    return told, lossy


def _start(command: list[str]) -> subprocess.Popen[bytes] | None:
    if not command:
        return None
    try:
        return subprocess.Popen(command, stdout=sys.stderr)
    except OSError as error:
        raise InputError(f"cannot run {command[0]!r}: {error.strerror}") from None


def _end(child: subprocess.Popen[bytes] | None) -> None:
    """What we started does not outlive us."""
    if child is None or child.poll() is not None:
        return
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(2)
    if child.poll() is None:
        child.kill()
        child.wait()


def _say_unobservable(tracer: Tracer, options: dict[str, Any]) -> None:
    if options["quiet"]:
        return
    for slot in tracer.session.slots:
        if slot.state != "attached":
            _say(f"not observable: {slot}: {slot.note or slot.state}")
    for stream, why in tracer.session.missing.items():
        _say(f"this kernel gives no {stream} events: {why}")
    if options["verbose"]:
        places = sum(s.state == "attached" for s in tracer.session.slots)
        took = ", ".join(f"{k} {v * 1000:.0f} ms" for k, v in tracer.session.times.items())
        _say(f"watching {', '.join(ns.name for ns in tracer.spaces)}: {places} taps ({took})")
    elif sys.stderr.isatty():
        _say(f"watching {', '.join(ns.name for ns in tracer.spaces)}; Ctrl-C ends")


def _say_where(worlds: Worlds, options: dict[str, Any]) -> None:
    """Which namespaces were chosen, where nobody named them and it is not this one alone."""
    if worlds.way is not None and not options["quiet"] and (len(worlds.way.spaces) > 1 or worlds.way.others):
        names = ", ".join(ns.name for ns in worlds.way.spaces)
        more = f" (wired to them, not on it: {', '.join(worlds.way.others)})" if worlds.way.others else ""
        _say(f"on the predicted path: {names}{more}")


def _residue(spaces: list[Namespace]) -> None:
    from . import residue

    found = residue.find(spaces)
    until = time.monotonic() + 3
    while found and time.monotonic() < until:  # the kernel frees programs a moment after their last descriptor
        time.sleep(0.1)
        found = residue.find(spaces)
    _say("nothing is left behind" if not found else "left behind: " + ", ".join(map(str, found)))


def _say(text: str) -> None:
    print(f"nattrace: {clean(text)}", file=sys.stderr, flush=True)


# -------------------------------------------------------------------------------------------------- replay


def _replay(flow: str, command: list[str], options: dict[str, Any]) -> int:
    from .recording import read
    from .trace import Replay

    if command or options["netns"] or options["output"]:
        raise InputError("-r tells a recording again: it watches nothing, runs nothing and saves nothing")
    replay = Replay(read(options["read"]), options["read"])
    worlds = Worlds(options, live=False)
    chosen = _matcher(worlds.question(flow, []))
    told = 0
    with Output(options, replay.scene, worlds, len(replay.scene.names), offset=_offset(replay.recording.header)) as out:
        for story in replay.stories():
            if told == (options["count"] or -1):
                break
            if chosen(story):
                told += 1
                out.story(story)
        out.totals(replay.totals())
    if not replay.recording.whole:
        _say(f"{options['read']}: the end of the recording is missing")
    return OK if told else UNDECIDED


def _offset(header: dict[str, Any]) -> int:
    """What turns the recorded clock into time of day, in ns."""
    started, clock = header.get("started"), header.get("monotonic")
    if isinstance(started, int | float) and isinstance(clock, int | float):
        return int((started - clock) * 1e9)
    return 0


def _matcher(question: Question | None) -> Callable[[Story], bool]:
    """Whether a recorded packet belongs to FLOW, at any of its places and in either direction."""
    if question is None:
        return lambda story: True
    packet = question.packet
    ways = [(packet.get("src"), packet.get("sport"), packet["dst"], packet.get("dport"))]
    ways.append((ways[0][2], ways[0][3], ways[0][0], ways[0][1]))

    def fits(story: Story) -> bool:
        for hop in story.hops:
            for seen in (hop.before, hop.after, *(hop.conntrack[k] for k in ("orig", "reply") if hop.conntrack)):
                mine = (seen.get("src"), seen.get("sport"), seen.get("dst"), seen.get("dport"))
                if any(all(w is None or w == m for w, m in zip(way, mine, strict=True)) for way in ways):
                    return True
        return False

    return fits


__all__ = ["MissingFacility", "Term", "filter_of", "netns", "run"]
