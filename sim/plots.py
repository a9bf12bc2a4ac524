"""Plots of answers and tables with matplotlib: a packet's way, who reaches whom, a change's effect, rule hits, latency.

Every function returns a matplotlib Axes, draws into ``ax`` if one is given, and tells states apart by sign and text as
well as by colour. matplotlib is imported when the first plot is made.
"""

from __future__ import annotations

from typing import Any

from .errors import InputError, MissingFacility

GOOD, BAD, UNSURE, INK = "#0072b2", "#d55e00", "#8a8a8a", "#333333"  # Okabe-Ito: told apart by colour-blind eyes
MOST_BARS = 25


def _axes(ax: Any, width: float, height: float) -> Any:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingFacility("matplotlib is not installed", remedy="pip install 'nattrace[notebook]'") from None
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def plot_path(document: dict[str, Any], ax: Any = None) -> Any:
    """The stations of a ``why`` document in order: hosts as bands, addresses where they change, the end marked."""
    ways = [(phase, r) for phase, r in (("forward", document), ("reply", document.get("reply"))) if r and r["hops"]]
    stations = max((len(r["hops"]) for _, r in ways), default=1)
    ax = _axes(ax, 2.6 * stations + 1.5, 1.7 * len(ways) + 0.4)
    for row, (phase, result) in enumerate(ways):
        y = -row
        hops = result["hops"]
        ax.plot(range(len(hops)), [y] * len(hops), color=INK, linewidth=1, zorder=1)
        for x, hop in enumerate(hops):
            last = x == len(hops) - 1
            fine = not last or result["outcome"] in ("delivered", "left")
            ax.scatter([x], [y], s=260, marker="o" if fine else "X", color=GOOD if fine else BAD, zorder=2)
            ax.annotate(
                f"{hop['host']}\n{_through(hop)}", (x, y), (0, 14), textcoords="offset points", ha="center", fontsize=8
            )
            shown = _ends(hop["after"] or hop["before"])
            if last:
                shown += f"\n{result['outcome'] or 'one of several'}"
            ax.annotate(shown, (x, y), (0, -16), textcoords="offset points", ha="center", va="top", fontsize=8)
        ax.annotate(phase, (-0.55, y), ha="right", va="center", fontsize=9, color=INK)
    ax.set(xlim=(-0.7, stations - 0.4), ylim=(-len(ways) + 0.35, 0.65))
    ax.set_axis_off()
    ax.set_title(document.get("verdict", ""), fontsize=9, wrap=True)
    return ax


def _through(hop: dict[str, Any]) -> str:
    return " → ".join(dev for dev in (hop["in"], hop["out"]) if dev)


def _ends(packet: dict[str, Any]) -> str:
    def end(addr: str, port: str) -> str:
        value = packet.get(port)
        return f"{packet.get(addr)}{f':{value}' if isinstance(value, int) else ''}"

    return f"{end('src', 'sport')}\n→ {end('dst', 'dport')}"


def plot_reach(table: Any, ax: Any = None) -> Any:
    """The matrix of :meth:`Snapshot.reach`: ✓ works both ways, ✗ does not, ? unknown; rows ask, columns are asked."""
    rows = _rows(table)
    sources = list(dict.fromkeys(r["from"] for r in rows))
    targets = list(dict.fromkeys((r["to"], r["address"], r["service"]) for r in rows))
    ax = _axes(ax, 0.9 + 0.75 * len(targets), 1.2 + 0.45 * len(sources))
    for r in rows:
        x, y = targets.index((r["to"], r["address"], r["service"])), sources.index(r["from"])
        works = r["works"]
        sign, colour = ("?", UNSURE) if works is None else ("✓", GOOD) if works else ("✗", BAD)
        ax.text(x, y, sign, color=colour, ha="center", va="center", fontsize=13, fontweight="bold")
    labels = [f"{host} {address}\n{service}" for host, address, service in targets]
    ax.set_xticks(range(len(targets)), labels, rotation=60, ha="right", fontsize=8)
    ax.set_yticks(range(len(sources)), sources)
    ax.set(xlim=(-0.6, len(targets) - 0.4), ylim=(len(sources) - 0.4, -0.6), ylabel="from", title="who reaches whom")
    ax.grid(alpha=0.25)
    return ax


def plot_change(document: dict[str, Any], ax: Any = None) -> Any:
    """A what-if's document: the way before above, the way after below, up to where each ends."""
    before = document.get("before")
    if not before:
        raise InputError("the answer is no what-if", remedy='snapshot.why(flow, set="net.ipv4.ip_forward=1")')
    ways = [("before", before), ("with " + "; ".join(document["what_if"]), document)]
    stations = max(len(d["hops"]) for _, d in ways)
    ax = _axes(ax, 2.6 * stations + 2, 4)
    for row, (name, result) in enumerate(ways):
        for x, hop in enumerate(result["hops"]):
            end = x == len(result["hops"]) - 1
            fine = not end or result["outcome"] in ("delivered", "left")
            ax.scatter([x], [-row], s=240, marker="o" if fine else "X", color=GOOD if fine else BAD, zorder=2)
            ax.annotate(
                f"{hop['host']}\n{_ends(hop['after'] or hop['before'])}", (x, -row), (0, -14),
                textcoords="offset points", ha="center", va="top", fontsize=8,
            )  # fmt: skip
        ax.plot(range(len(result["hops"])), [-row] * len(result["hops"]), color=INK, linewidth=1, zorder=1)
        ax.annotate(f"{name}: {result['outcome']}", (-0.3, -row + 0.22), fontsize=9, color=INK)
    ax.set(xlim=(-0.5, stations - 0.5), ylim=(-1.7, 0.55))
    ax.set_axis_off()
    return ax


def plot_hits(table: Any, ax: Any = None) -> Any:
    """Packets per rule of a rules table (``snapshot.rules``), the busiest first; rules that never matched are counted."""
    rows = [r for r in _rows(table) if r["packets"] is not None and r["packets"] == r["packets"]]
    busy = sorted((r for r in rows if r["packets"]), key=lambda r: -r["packets"])[:MOST_BARS]
    ax = _axes(ax, 9, 0.8 + 0.32 * max(len(busy), 1))
    names = [f"{r['host']} {r['table']}:{r['chain']}:{r['rule']}  {str(r['text'])[:60]}" for r in busy]
    ax.barh(range(len(busy)), [r["packets"] for r in busy], color=GOOD)
    ax.set_yticks(range(len(busy)), names, fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="packets", title=f"rule hits ({len(rows) - sum(bool(r['packets']) for r in rows)} rules without any)")
    return ax


def plot_latency(table: Any, ax: Any = None) -> Any:
    """Microseconds between stations of traced packets: median and the middle 80 % of ``us`` for each ``stage``."""
    rows = _rows(table)
    stages: dict[str, list[float]] = {}
    for r in rows:
        if r["us"] is not None and r["us"] == r["us"]:
            stages.setdefault(str(r["stage"]), []).append(float(r["us"]))
    if not stages:
        raise InputError("no latencies in the table", remedy="plot the table of a recorded trace")
    ax = _axes(ax, 9, 0.8 + 0.32 * len(stages))
    for y, values in enumerate(stages.values()):
        found = sorted(values)
        low, middle, high = (found[int(q * (len(found) - 1))] for q in (0.1, 0.5, 0.9))
        ax.plot([low, high], [y, y], color=INK, linewidth=2)
        ax.scatter([middle], [y], color=GOOD, s=40, zorder=2)
    ax.set_yticks(range(len(stages)), list(stages), fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="microseconds since the station before (dot: median, line: 10 to 90 %)")
    return ax


def _rows(table: Any) -> list[dict[str, Any]]:
    """A DataFrame of either kind, an Arrow table or a list of rows as plain rows; NaN of pandas as None."""
    if isinstance(table, list):
        return table
    if hasattr(table, "to_pylist"):
        return list(table.to_pylist())
    if hasattr(table, "to_dicts"):
        return list(table.to_dicts())
    rows: list[dict[str, Any]] = table.to_dict("records")
    return [{k: None if isinstance(v, float) and v != v else v for k, v in row.items()} for row in rows]
