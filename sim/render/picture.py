"""The netfilter picture of a journey as a drawing: boxes, texts and lines with coordinates; no markup, no colours.

``wide`` draws each host as the textbook does (PREROUTING, routing, FORWARD, POSTROUTING in a row, INPUT, the host's own
programs and OUTPUT above); ``tall`` puts only what the packet passes below one another, for a phone. Both come from the
same :class:`~.journey.Journey`; ``roles`` name what a shape is, and a renderer's style sheet says how that looks.
"""

from __future__ import annotations

from ..record import NamedTuple
from .drawing import Box, Drawing, Group, Path, Point, Text
from .journey import ARRIVE, FWD, IN, LEAVE, NEIGHBOUR, OUT, POST, PRE, PROCESS, ROUTE, Event, Journey, Pass
from .style import fit, wrap

CHAR, LINE = 6.65, 15.0  # of the 11 pixel monospace face that every renderer sets
BOLD = 8.2  # of the 13 pixel face of titles, at most
HEAD, PAD, GAP = 22.0, 7.0, 26.0
MOST_LINES = 4  # of a cell; the step list has them all


class Frame(NamedTuple):
    """Where a station's box is."""

    x: float
    y: float
    w: float
    h: float
    on: bool

    @property
    def middle(self) -> float:
        return self.y + HEAD / 2

    @property
    def centre(self) -> float:
        return self.x + self.w / 2


# ------------------------------------------------------------------------------------------- what boxes say


class Block(NamedTuple):
    """A cell ready to be drawn: its name at the left, what happened below, the steps it stands for."""

    name: str
    aside: str
    lines: tuple[str, ...]
    role: str
    steps: tuple[int, ...]

    @property
    def height(self) -> float:
        return LINE * (1 + len(self.lines)) + 6


def _role(events: list[Event]) -> str:
    if any(e.wrong for e in events):
        return "wrong"
    if any(e.step.changes.keys() - {"ttl"} for e in events):
        return "changed"
    if any(e.mark.tail for e in events):
        return "decided"
    return "hit" if events else "quiet"


def _said(events: list[Event], room: int) -> tuple[str, ...]:
    """At most two lines for each event, and the margin's words; where there are too many, those that decide stay."""
    shown = events
    if len(events) > MOST_LINES:
        ranked = sorted(events, key=lambda e: (-_weight(e), e.number))[: MOST_LINES - 1]
        shown = [e for e in events if e in ranked]
    lines: list[str] = []
    for e in shown:
        first, *rest = wrap(f"{e.number} {'✗ ' if e.wrong else ''}{e.brief}", room)
        lines.append(first)
        lines += [f"  {fit(' '.join(rest), room - 2)}"] if rest else []
        lines += [f"  {fit(e.mark.tail, room - 2)}"] if e.mark.tail else []
    if len(events) > len(shown):
        lines.append(f"… and {len(events) - len(shown)} more")
    return tuple(lines)


def _weight(e: Event) -> int:
    """How much an event decides."""
    if e.wrong or e.mark.tail or e.mark.text is not None:
        return 3
    return 2 if e.step.changes.keys() - {"ttl"} else 1 if e.step.matched else 0


def _block(name: str, aside: str, events: list[Event], room: int) -> Block:
    return Block(fit(name, room), aside, _said(events, room), _role(events), tuple(e.number for e in events))


def _blocks(one: Pass, station: str, room: int) -> list[Block]:
    """The cells of a hook, in the order in which they run."""
    found = []
    cells = one.cells.get(station, ())
    for name in dict.fromkeys(e.cell for e in one.at(station)):
        if name == "forward":
            found.append(_block("ip_forward", "", one.at(station, name), room))
    for cell in cells:
        events = one.at(station, cell.name)
        if not cell.present and not events:
            found.append(Block(cell.name, "none", (), "absent", ()))
            continue
        aside = "" if cell.rules is None else "1 rule" if cell.rules == 1 else f"{cell.rules} rules"
        found.append(_block(cell.name, aside, events, room))
    known = {c.name for c in cells} | {"forward"}
    for name in dict.fromkeys(e.cell for e in one.at(station)):
        if name not in known:
            found.append(_block(name, "", one.at(station, name), room))
    return found


def _draw_block(block: Block, x: float, y: float, w: float, label: str) -> Group:
    shapes: list[Box | Text | Path] = [Box(x, y, w, block.height - 3, f"cell {block.role}", 3)]
    shapes.append(Text(x + 6, y + 12, block.name, f"cell-name {block.role}"))
    if block.aside:
        shapes.append(Text(x + w - 6, y + 12, block.aside, "aside", "end"))
    for i, line in enumerate(block.lines):
        shapes.append(Text(x + 6, y + 12 + LINE * (i + 1), line, f"said {block.role}"))
    return Group(
        block.steps,
        f"{label} {block.name}: {'; '.join(s.strip() for s in block.lines) or 'nothing happens'}",
        tuple(shapes),
    )


# ------------------------------------------------------------------------------------------------ wide

COLUMNS = ((0, 172), (198, 196), (420, 188), (634, 196), (856, 214), (1096, 172))  # x, width
WIDE = 1268.0
SMALL = 24.0


def wide(journey: Journey) -> Drawing:
    """Every pass as the whole netfilter picture; passes in which nothing but routing happens as a strip."""
    drawing = Drawing(WIDE, about=_about(journey))
    y = 4.0
    leave: Point | None = None
    whole = all(p.dull for p in journey.passes) and len(journey.passes) < 3
    for number, one in enumerate(journey.passes, 1):
        if one.dull and not whole:
            y, enter, gone = _strip(drawing, one, y, WIDE)
        else:
            y, enter, gone = _panel(drawing, one, y, number == len(journey.passes))
        if leave is not None and enter is not None:
            drawing.add(_handed_over(leave, enter))
        leave = gone
        y += GAP
    drawing.height = _ending(drawing, journey, y - GAP + 8, WIDE)
    return drawing


def _about(journey: Journey) -> str:
    hosts = " → ".join(p.title for p in journey.passes)
    way = "The packet's way" if journey.phase == "forward" else "The reply's way"
    return f"{way} through {hosts}; it {journey.ending}."


def _handed_over(leave: Point, enter: Point) -> Path:
    middle = leave[1] + GAP / 2 - 2
    if abs(leave[0] - enter[0]) < 1:
        return Path((leave, enter), "way")
    return Path((leave, (leave[0], middle), (enter[0], middle), enter), "way")


def _strip(d: Drawing, one: Pass, y: float, width: float) -> tuple[float, Point | None, Point | None]:
    """A pass in one line."""
    room = int((width - 24) / CHAR)
    sent, received = one.in_dev is None, one.out_dev is None
    dev = f"received by {one.in_dev}" if received else f"{one.in_dev} → {one.out_dev}"
    what = f"sends by {one.out_dev}" if sent else dev
    header = f"{one.after or one.before}   {one.ttl}".rstrip()
    head = f"{one.title}   {what}"
    lines = [f"{e.number} {e.brief}" for e in one.events]
    said = [] if width > 400 else [fit(header, room)]
    said += wrap(" · ".join(lines), room) if lines else []
    head += f"   {header}" if width > 400 else ""
    height = HEAD + LINE * len(said) + (PAD if said else 0)
    head = fit(head, int((width - 24) / BOLD))
    shapes: list[Box | Text | Path] = [Box(0, y, width, height, "strip", 6), Text(12, y + 15, head, "title")]
    shapes += [Text(12, y + 15 + LINE * (i + 1), line, "said hit") for i, line in enumerate(said)]
    d.add(Group(tuple(e.number for e in one.events), f"{head}: {'; '.join(lines)}", tuple(shapes)))
    return y + height, (86, y), (86 if width > 400 else width / 2, y + height)


def _panel(d: Drawing, one: Pass, y: float, last: bool) -> tuple[float, Point | None, Point | None]:
    """One host with all its hooks; what the packet does not pass is small and pale."""
    d.add(Text(COLUMNS[1][0], y + 14, one.title, "title"))
    entry = "  ".join(p for p in (one.conntrack.lower(), f"zone {one.zone}" if one.zone else "", one.ttl) if p)
    if entry:
        d.add(Text(COLUMNS[1][0] + len(one.title) * BOLD + 16, y + 14, entry, "aside"))
    top = y + 24
    column = dict(zip((ARRIVE, PRE, ROUTE, FWD, POST, LEAVE), COLUMNS, strict=True))
    column |= {IN: COLUMNS[2], PROCESS: COLUMNS[3], OUT: COLUMNS[4]}
    content = {s: _content(one, s, int((column[s][1] - 22) / CHAR)) for s in (PRE, ROUTE, FWD, POST, IN, PROCESS, OUT)}
    local_route = one.way[0] == PROCESS
    if local_route:  # the routing decision of a sender is made up there, beside the program
        content[PROCESS], content[ROUTE] = [*content[PROCESS], *content[ROUTE]], []
    upper = max(_height(content[s], one.passed(s)) for s in (IN, PROCESS, OUT))
    frames: dict[str, Frame] = {}
    for s in (IN, PROCESS, OUT):
        h = _height(content[s], one.passed(s))
        frames[s] = Frame(column[s][0], top + upper - h, column[s][1], h, one.passed(s))
    base = top + upper + 24
    for s in (ARRIVE, PRE, ROUTE, FWD, POST, LEAVE):
        on = one.passed(s) and not (s == ROUTE and local_route)
        frames[s] = Frame(column[s][0], base, column[s][1], _height(content.get(s, []), on), on)
    for s, dev, ends in ((ARRIVE, one.in_dev, one.before), (LEAVE, one.out_dev, one.after)):
        frames[s] = frames[s]._replace(h=_device_height(ends, frames[s].w) if dev else SMALL)
    _wires(d, one, frames)
    for s in (PRE, ROUTE, FWD, POST, IN, PROCESS, OUT):
        _station(d, one, s, frames[s], content[s])
    _device(d, one, ARRIVE, frames[ARRIVE], one.in_dev, one.before, "")
    _device(d, one, LEAVE, frames[LEAVE], one.out_dev, one.after, one.before)
    below = _next_hop(d, one, frames[LEAVE])
    bottom = max(below, *(f.y + f.h for f in frames.values()))
    enter = (frames[ARRIVE].centre, frames[ARRIVE].y) if one.in_dev else None
    if not one.out_dev:
        return bottom, enter, None
    if not last:
        d.add(Path(((frames[LEAVE].centre, below), (frames[LEAVE].centre, bottom)), "way", False))
    return bottom, enter, (frames[LEAVE].centre, bottom)


def _content(one: Pass, station: str, room: int) -> list[Block]:
    if station == ROUTE:
        return [_block(name, "", one.at(ROUTE, name), room) for name in dict.fromkeys(e.cell for e in one.at(ROUTE))]
    if station == PROCESS:
        src, _, dst = one.before.partition(" → ")
        return [Block(fit(src, room), "", (fit(f"→ {dst}", room),), "header", ())] if one.in_dev is None else []
    return _blocks(one, station, room)


def _height(blocks: list[Block], on: bool) -> float:
    return HEAD + sum(b.height for b in blocks) + (PAD if blocks else 0) if on else SMALL


NAMES = {ROUTE: "routing", PROCESS: "local process"}


def _station(d: Drawing, one: Pass, station: str, f: Frame, blocks: list[Block]) -> None:
    name = NAMES.get(station, station)
    ends = f.on and one.ends_here and one.end == station
    role = "station ended" if ends else "station on" if f.on else "station off"
    d.add(Box(f.x, f.y, f.w, f.h, role, 12 if station == PROCESS else 6))
    d.add(Text(f.x + 9, f.y + 15, name, "station-name" if f.on else "aside"))
    if ends:
        d.add(Text(f.x + f.w - 9, f.y + 15, "✗ ends here", "ended", "end"))
    y = f.y + HEAD
    for block in blocks if f.on else ():
        d.add(_draw_block(block, f.x + 5, y, f.w - 10, f"{one.title}, {name},"))
        y += block.height


def _device(d: Drawing, one: Pass, station: str, f: Frame, dev: str | None, ends: str, was: str) -> None:
    """Where the packet comes in or goes out, and what its header says there."""
    word = "in" if station == ARRIVE else "out"
    if dev is None:
        d.add(Box(f.x, f.y, f.w, SMALL, "station off", 6), Text(f.x + 9, f.y + 15, "–", "aside"))
        return
    room = int((f.w - 14) / CHAR)
    d.add(Box(f.x, f.y, f.w, f.h, "device", 6), Text(f.x + 7, f.y + 15, fit(f"{word} {dev}", room), "station-name"))
    for i, (text, changed) in enumerate(_headers(ends, was, f.w)):
        d.add(Text(f.x + 7, f.y + 15 + LINE * (i + 1), text, "header changed" if changed else "header"))


def _headers(ends: str, was: str, width: float) -> list[tuple[str, bool]]:
    """The lines of a header: an address of IPv6 may take two."""
    room = int((width - 14) / CHAR)
    return [(piece, changed) for text, changed in _two_ends(ends, was) for piece in wrap(text, room)]


def _device_height(ends: str, width: float) -> float:
    return HEAD + len(_headers(ends, "", width)) * LINE + PAD


def _two_ends(ends: str, was: str) -> list[tuple[str, bool]]:
    """Source and destination, and whether each differs from what it was."""
    src, _, dst = ends.partition(" → ")
    old_src, _, old_dst = was.partition(" → ")
    return [(src, bool(was) and src != old_src), (f"→ {dst}", bool(was) and dst != old_dst)]


def _next_hop(d: Drawing, one: Pass, f: Frame) -> float:
    """The neighbour that the packet is handed to, below the way out; where that ends."""
    events = one.at(NEIGHBOUR)
    end = f.y + (f.h if one.out_dev else SMALL)
    if not events:
        return end
    block = _block("neighbour", "", events, int((f.w - 12) / CHAR))
    d.add(Path(((f.centre, end), (f.centre, end + 12)), "way"))
    d.add(_draw_block(block, f.x, end + 12, f.w, f"{one.title}, neighbour,"))
    return end + 12 + block.height - 3


def _wires(d: Drawing, one: Pass, f: dict[str, Frame]) -> None:
    """Lines between stations: those the packet took, and the other ones."""
    route = f[ROUTE]
    taken = set(zip(one.way, one.way[1 : one.reached], strict=False))
    sent = one.way[0] == PROCESS

    def role(a: str, b: str) -> str:
        return "way" if (a, b) in taken else "other"

    def across(a: str, b: str, key: tuple[str, str] | None = None) -> Path:
        return Path(((f[a].x + f[a].w, f[a].middle), (f[b].x, f[b].middle)), role(*(key or (a, b))))

    lines = [across(ARRIVE, PRE), across(PRE, ROUTE), across(ROUTE, FWD), across(FWD, POST)]
    up_in = Path(((route.centre, route.y), (route.centre, f[IN].y + f[IN].h)), role(ROUTE, IN))
    process = Path(
        ((f[IN].x + f[IN].w, f[IN].y + f[IN].h - 12), (f[PROCESS].x, f[IN].y + f[IN].h - 12)), role(IN, PROCESS)
    )
    y = f[PROCESS].y + f[PROCESS].h - 12
    sending = "way" if sent and OUT in one.way[: one.reached] else "other"
    out = Path(((f[PROCESS].x + f[PROCESS].w, y), (f[OUT].x, y)), sending)
    down = Path(((f[OUT].centre, f[OUT].y + f[OUT].h), (f[OUT].centre, f[POST].y)), role(OUT, POST))
    leaving = "way" if LEAVE in one.way[: one.reached] and one.out_dev else "other"
    last = Path(((f[POST].x + f[POST].w, f[POST].middle), (f[LEAVE].x, f[POST].middle)), leaving)
    lines += [up_in, process, out, down, last]
    d.add(*sorted(lines, key=lambda line: line.role == "way"))


def _ending(d: Drawing, journey: Journey, y: float, width: float) -> float:
    """How it ends, and what the sender is told, below the picture."""
    room = int((width - 20) / 7.6)
    sign = "✓" if journey.good else "✗"
    for i, line in enumerate(wrap(f"{sign} {journey.ending}", room)):
        d.add(Text(2 if i == 0 else 16, y + 16, line, "ending good" if journey.good else "ending bad"))
        y += 18
    for answer in journey.answers:
        for line in wrap(f"↩ {answer}", room):
            d.add(Text(2, y + 16, line, "ending"))
            y += 18
    return y + 10


# ------------------------------------------------------------------------------------------------ tall

TALL = 340.0


def tall(journey: Journey) -> Drawing:
    """What the packet passes, one below the other."""
    drawing = Drawing(TALL, about=_about(journey))
    y, leave = 4.0, None
    for one in journey.passes:
        if leave is not None:
            drawing.add(Path(((TALL / 2, leave), (TALL / 2, y)), "way"))
        y = _strip(drawing, one, y, TALL)[0] if one.dull else _column(drawing, one, y)
        leave = y
        y += GAP
    drawing.height = _ending(drawing, journey, y - GAP + 6, TALL)
    return drawing


def _column(d: Drawing, one: Pass, y: float) -> float:
    room = int((TALL - 22) / CHAR)
    entry = "  ".join(p for p in (one.conntrack.lower(), f"zone {one.zone}" if one.zone else "", one.ttl) if p)
    d.add(Text(2, y + 14, fit(one.title, 22), "title"), Text(TALL - 2, y + 14, entry, "aside", "end"))
    y += 22
    shown = [s for s in one.way[: one.reached] if s != NEIGHBOUR or one.at(NEIGHBOUR)]
    for i, station in enumerate(shown):
        if i:
            d.add(Path(((TALL / 2, y), (TALL / 2, y + 14)), "way"))
            y += 14
        if station in (ARRIVE, LEAVE):
            dev, ends, was = (one.in_dev, one.before, "") if station == ARRIVE else (one.out_dev, one.after, one.before)
            f = Frame(0, y, TALL, _device_height(ends, TALL) if dev else SMALL, True)
            _device(d, one, station, f, dev, ends, was)
        else:
            blocks = [b for b in _content(one, station, room) if b.role != "absent"]
            if station == NEIGHBOUR:
                blocks = [_block("next hop", "", one.at(NEIGHBOUR), room)]
            f = Frame(0, y, TALL, _height(blocks, True), True)
            _station(d, one, station, f, blocks)
        y += f.h
    others = [s for s in (PRE, IN, FWD, OUT, POST) if s not in shown]
    if others:
        for line in wrap(f"not passed: {', '.join(others)}", int(TALL / CHAR)):
            d.add(Text(2, y + 15, line, "aside"))
            y += LINE
        y += 5
    return y


__all__ = ["tall", "wide"]
