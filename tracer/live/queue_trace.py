"""``trace --tap queue --step``: each packet of the flow waits at each place until the user lets it go on, changed or not.

FORWARD -1 on router: behind filter FORWARD          packet 1
  IP / UDP 10.7.1.2:40001 > 10.7.2.2:80 / Raw
  since PREROUTING -99: IP.ttl 64 → 63
Enter, d, s LAYER.FIELD=VALUE, m MARK, f, q, ?
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...sim.errors import InputError
from ...sim.render.style import clean
from .dissect import changed, dissect, fields
from .queue import Held
from .queue_session import QueueSession

if TYPE_CHECKING:
    from .plan import Slot

HELP = """Enter           let it go on
d               drop it
s FIELD=VALUE   change a field (IP.ttl=3, UDP.dport=54, Raw.load=text), then Enter
m MARK          give it this mark, then Enter
f               every field
q               let everything go on, and end"""
TICK = 0.1
AFTER_COMMAND = 1.0  # seconds in which what a command caused may still come


class Stepper:
    """Shows one held packet after another. ``ask``: reads a line, None at the end of the input."""

    def __init__(self, session: QueueSession, ask: Callable[[], str | None], out: Callable[[str], None],
                 limit: int) -> None:  # fmt: skip
        self.session, self.ask, self.out, self.limit = session, ask, out, limit
        self.last: dict[int, tuple[bytes, int, str]] = {}  # number of a packet → as it went on, its mark, where
        self.numbers: dict[int, int] = {}
        self.names = {ns.inum: ns.name for ns in session.namespaces}

    def show(self, held: Held, netns: int) -> bool:
        """One packet at one place, until it has its verdict. False: the user has had enough."""
        row = self.session.events([(held.seen, netns)])[0]
        number = self._number(int(row["skb"]))
        if number > self.limit:
            del self.numbers[int(row["skb"])]
            held.accept()
            return False
        self._headline(held, netns, number)
        data, mark = held.seen.data, held.seen.mark
        while True:
            line = self.ask()
            word, _, rest = (line or "").strip().partition(" ")
            if line is None or word == "q":
                held.accept()
                return False
            if word == "":
                self._go_on(held, data, mark)
                self.last[number] = (data, mark, str(held.seen.point))
                return True
            if word == "d":
                held.drop()
                self.out("  dropped")
                return True
            try:
                data, mark = self._edit(word, rest, data, mark)
            except (ValueError, InputError) as error:
                self.out(f"  {clean(str(error))}")

    @property
    def packets(self) -> int:
        """How many were shown."""
        return len(self.numbers)

    def _number(self, identity: int) -> int:
        """From 1, as they are first seen."""
        return self.numbers.setdefault(identity, len(self.numbers) + 1)

    def _headline(self, held: Held, netns: int, number: int) -> None:
        seen = held.seen
        slot = next(
            (s for s in self.session.slots if s.netns.inum == netns and (s.hook, s.prio) == tuple(seen.point)), None
        )
        self.out(f"{seen.point} on {self.names[netns]}{_around(slot)}   packet {number}")
        self.out(f"  {clean(seen.packet.summary())}" + (f"  mark {seen.mark:#x}" if seen.mark else ""))
        if seen.entry is not None:
            self.out(f"  {seen.ctinfo}: {seen.entry.orig} | reply {seen.entry.reply}")
        if number in self.last:
            data, mark, where = self.last[number]
            found = [str(c) for c in changed(data, seen.data)] + (
                [f"mark {mark:#x} → {seen.mark:#x}"] if mark != seen.mark else []
            )
            self.out(f"  since {where}: {clean(', '.join(found)) or 'nothing changed'}")

    def _edit(self, word: str, rest: str, data: bytes, mark: int) -> tuple[bytes, int]:
        if word == "f":
            for name, value in fields(dissect(data)):
                self.out(f"  {name} {clean(value)}")
        elif word == "s":
            data = edited(data, rest)
            self.out(f"  now {clean(dissect(data).summary())}")
        elif word == "m":
            mark = int(rest, 0)
        else:
            self.out(HELP)
        return data, mark

    @staticmethod
    def _go_on(held: Held, data: bytes, mark: int) -> None:
        given = None if mark == held.seen.mark else mark
        if data == held.seen.data:
            held.accept(given)
        else:
            held.change(data, given)


def edited(data: bytes, words: str) -> bytes:
    """``LAYER.FIELD=VALUE`` done to a packet, lengths and checksums made right. Raises InputError."""
    from .dissect import rebuilt

    place, equals, value = words.partition("=")
    layer_name, _, field = place.strip().partition(".")
    packet = dissect(data)
    layer = packet
    while layer is not None and layer.name != "NoPayload" and type(layer).__name__ != layer_name:
        layer = layer.payload or None
    if not equals or layer is None or layer.name == "NoPayload" or not any(f.name == field for f in layer.fields_desc):
        raise InputError(f"no such field: {place.strip()[:60]!r} (f lists them)")
    old = layer.getfieldval(field)
    try:
        new: Any = int(value, 0) if isinstance(old, int) else value.encode() if isinstance(old, bytes) else value
        layer.setfieldval(field, new)
        return rebuilt(packet)
    except Exception as error:  # scapy raises what its fields please
        raise InputError(f"{place.strip()} cannot be {value[:60]!r} ({type(error).__name__})") from None


def _around(slot: Slot | None) -> str:
    """The chains between which the packet waits."""
    if slot is None:
        return ""
    parts = []
    for word, chains in (("behind", slot.after), ("before", slot.before)):
        if chains:
            parts.append(f"{word} {', '.join(f'{c.table} {c.name}'.strip() for c in chains)}")
    return ": " + ", ".join(parts) if parts else ""


def run_step(session: QueueSession, options: dict[str, Any], start: Callable[[], Any], stop: Any) -> int:
    """Hold, show, ask, until the count, the time, the command or the user ends it. Returns the exit status."""
    if options["as_json"] or options["pcapng"] or options["output"]:
        raise InputError("--step is a conversation: it goes with none of --json, -w, -o")
    with ExitStack() as stack:
        for line in session.changes():
            print(f"nattrace: changes while it runs: {clean(line)}", file=sys.stderr)
        stack.enter_context(session)
        limit = options["count"] or 1 << 60
        stepper = Stepper(session, lambda: _line(stop), lambda text: print(text, flush=True), limit)
        if options["ready_file"]:
            import os

            Path(options["ready_file"]).write_text(f"{os.getpid()}\n")
        child, gone = start(), 0.0
        if child is not None:
            stack.callback(lambda: child.poll() is None and child.terminate())
        until = time.monotonic() + (options["duration"] or 1e9)
        going = True
        while going and not stop.signal and time.monotonic() < until:
            for held, netns in session.held(TICK):
                if going:
                    going = stepper.show(held, netns)
                else:
                    held.accept()
            if child is not None and child.poll() is not None and not gone:
                gone = time.monotonic()
            going = going and (not gone or time.monotonic() - gone < AFTER_COMMAND)
            if len(session.vanished()) == len(session.namespaces):
                print("nattrace: the namespace that was watched is gone", file=sys.stderr)
                break
        loss = session.loss()
    lost = ", ".join(f"{v} {k}" for k, v in loss.items() if v)
    print(f"nattrace: {stepper.packets} packets held" + (f"; {lost}" if lost else ""), file=sys.stderr)
    return 130 if stop.signal else 0 if stepper.packets else 4


def _line(stop: Any) -> str | None:
    """A line of the user; None at the end, or when a signal came."""
    sys.stderr.write("Enter, d, s LAYER.FIELD=VALUE, m MARK, f, q, ? ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    return None if stop.signal or not line else line
