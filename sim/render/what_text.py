"""What a capture tells, as text: flow by flow, or packet by packet between two captures."""

from __future__ import annotations

from collections import Counter

from ..what.matching import AS_PREDICTED, LOST, OTHERWISE, UNASKED, VANISHED, Match, difference
from ..what.sighting import OUT
from ..what.story import Account, FlowStory, came, changes, flow_text, went
from .style import Style, clean, wrap

MOST_SHOWN = 8  # numbers of packets that are written out


def stories_text(stories: list[FlowStory], width: int, style: Style, limit: int) -> str:
    """Every flow with what the host must have done."""
    lines: list[str] = []
    for number, story in enumerate(stories[:limit], 1):
        beyond = f", {story.beyond} not followed" if story.beyond else ""
        lines.append(style(f"{number:>3}  {clean(flow_text(story.first))}   {_packets(story.packets)}{beyond}", "bold"))
        for account in story.accounts:
            lines += _account(account, width, style)
    if len(stories) > limit:
        lines.append(f"… and {len(stories) - limit} more flows (--flows N shows more)")
    return "\n".join(lines) + "\n" if lines else "no IPv4 packet in the capture\n"


def _packets(count: int) -> str:
    return "1 packet" if count == 1 else f"{count} packets"


def _account(account: Account, width: int, style: Style) -> list[str]:
    place = f"{account.first.host}:{account.first.dev}"
    sign = "←" if account.way == OUT else "→"
    lines = [f"     {sign} {account.way} {place}   {_numbers(account.numbers)}"]
    if not account.ways:
        text = "nothing in the snapshot makes this packet: no connection, route or rule leads to it"
        return lines + _block(text, width, style, "red")
    if account.way == OUT:
        return lines + _origins(account, width)
    way = account.ways[0]
    good = way.leaf.outcome in ("delivered", "left")
    for hop in way.leaf.hops:
        for text in changes(hop, way.leaf.state):
            lines += _block(f"{hop.host}: {text}", width, style)
    return lines + _block(went(way.leaf), width, style, "green" if good else "red")


def _origins(account: Account, width: int) -> list[str]:
    lines = []
    plain = Style(False)
    for i, way in enumerate(account.ways):
        lines += _block(("" if i == 0 else "or ") + came(way), width, plain)
        for text in changes(way.hop, way.leaf.state):
            lines += _block(f"  {text}", width, plain)
    return lines


def _block(text: str, width: int, style: Style, *paint: str) -> list[str]:
    return [style("         " + piece, *paint) for piece in wrap(clean(text), max(width - 9, 20))]


def _numbers(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:MOST_SHOWN]))
    return f"packet{'s' * (len(numbers) > 1)} {shown}{f' … ({len(numbers)})' if len(numbers) > MOST_SHOWN else ''}"


TITLE = {
    AS_PREDICTED: "came out as predicted",
    OTHERWISE: "came out otherwise than predicted",
    VANISHED: "not to come out there, as predicted",
    LOST: "should have come out there and did not",
    UNASKED: "only seen going out",
}


def matches_text(matches: list[Match], width: int, style: Style, limit: int) -> str:
    """Totals, then what is not as it should be in full, then samples of the rest."""
    counts = Counter(m.kind for m in matches)
    lines = [style(f"{counts[kind]:>6}  {title}", "bold") for kind, title in TITLE.items() if counts[kind]]
    shown: Counter[str] = Counter()
    for kind in (OTHERWISE, LOST, VANISHED, UNASKED, AS_PREDICTED):
        for m in matches:
            if m.kind != kind:
                continue
            shown[kind] += 1
            if shown[kind] <= limit:
                lines += _match(m, width, style)
    return "\n".join(lines) + "\n" if lines else "no IPv4 packet in the captures\n"


def _match(m: Match, width: int, style: Style) -> list[str]:
    seen = m.before or m.after
    assert seen is not None
    number = f"{m.before.dev} #{m.before.number}" if m.before else ""
    other = f"→ {m.after.dev} #{m.after.number}" if m.after else ""
    colour = {AS_PREDICTED: "green", VANISHED: "yellow"}.get(m.kind, "red")
    lines = [style(f"  {number} {other}  {clean(flow_text(seen))}: {TITLE[m.kind]}", colour)]
    if m.kind == VANISHED and m.leaf is not None:
        lines += _block(went(m.leaf), width, style)
    elif m.kind == LOST and m.predicted is not None:
        shown = " → ".join(str(m.predicted.get(k)) for k in ("src", "dst"))
        lines += _block(
            f"predicted to leave as {shown}: look for what the snapshot does not show (tc, the wire)", width, style
        )
    elif m.kind == OTHERWISE and m.after is not None:
        said = difference(m.predicted, m.after.packet) if m.predicted else [went(m.leaf)] if m.leaf else []
        lines += _block("; ".join(said), width, style)
    elif m.kind == AS_PREDICTED and m.after is not None and m.leaf is not None:
        for hop in m.leaf.hops:
            for text in changes(hop, m.leaf.state):
                lines += _block(f"{hop.host}: {text}", width, style)
    return lines
