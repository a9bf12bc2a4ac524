"""Tables are the snapshot's facts in either kind of DataFrame; pictures are made from them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import nattrace as nt
import pytest
from nattrace.sim.frames import frame
from nattrace.sim.tables import TABLES

PING = "icmp 10.10.1.1 -> 8.8.8.8 at client"


@pytest.mark.parametrize("name", TABLES)
def test_pandas_polars_and_arrow_hold_the_same(name: str) -> None:
    snapshot = nt.load("two-uplinks.running-ping")
    arrow = snapshot.table(name, "arrow")
    assert snapshot.table(name, "polars").to_dicts() == arrow.to_pylist()
    assert list(snapshot.table(name, "pandas").columns) == arrow.column_names
    assert len(snapshot.table(name)) == arrow.num_rows


def test_rows_are_what_the_dumps_say() -> None:
    snapshot = nt.load("two-uplinks.running-ping")
    rules = snapshot.table("rules", "arrow").to_pylist()
    assert {r["where"] for r in rules if r["host"] == "nat"} == {"nat/iptables-save.txt:6", "nat/iptables-save.txt:7"}
    entries = snapshot.table("conntrack", "arrow").to_pylist()
    natted = [e for e in entries if e["host"] == "nat"]
    assert natted and all(e["src"] != e["reply_dst"] for e in natted)
    addresses = snapshot.table("addresses", "arrow").to_pylist()
    assert {"host": "nat", "interface": "eth1", "address": "172.31.8.208/20"}.items() <= next(
        a for a in addresses if (a["host"], a["interface"]) == ("nat", "eth1")
    ).items()


def test_values_that_nest_become_text_outside_pandas() -> None:
    rows: list[dict[str, Any]] = [{"a": {"x": [1]}, "b": 1, "c": None}, {"a": "t", "b": 2.5, "c": None}]
    assert frame(rows, ("a", "b", "c"), "arrow").to_pylist() == [
        {"a": '{"x": [1]}', "b": 1.0, "c": None},
        {"a": "t", "b": 2.5, "c": None},
    ]
    assert frame(rows, ("a",), "pandas")["a"].iloc[0] == {"x": [1]}


def test_a_kind_or_table_that_is_none_is_refused() -> None:
    snapshot = nt.load("private-namespace")
    with pytest.raises(nt.InputError, match="no table 'rule'"):
        snapshot.table("rule")
    with pytest.raises(nt.InputError, match="no kind of table 'csv'"):
        snapshot.table("rules", "csv")


def test_without_the_libraries_the_message_names_them() -> None:
    script = (
        "import sys; sys.modules['pandas'] = sys.modules['matplotlib'] = None\n"
        "import nattrace as nt; s = nt.load('private-namespace')\n"
        "for ask in (lambda: s.table('rules', 'pandas'), lambda: s.why('1.1.1.1 at private', fixes=False).plot()):\n"
        "    try: ask()\n"
        "    except nt.MissingFacility as e: print(e.exit_code, e)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("3 ") == 2 and done.stdout.count("nattrace[notebook]") == 2


def test_who_reaches_whom() -> None:
    rows = nt.load("private-namespace").reach(["icmp"], kind="arrow").to_pylist()
    assert {(r["from"], r["to"], r["works"]) for r in rows} >= {("private", "host", True), ("host", "private", True)}
    with pytest.raises(nt.InputError, match="no service 'tcp'"):
        nt.load("private-namespace").reach(["tcp"])


def test_simulated_packets_are_rows() -> None:
    record = {"host": "private", "in": None, "proto": "udp", "src": None, "dst": "9.9.9.9", "sport": 5000, "dport": 53}
    rows = nt.load("private-namespace.forwarding").simulate_table([record | {"id": 7}], kind="arrow").to_pylist()
    assert {"id": 7, "host": "private", "outcome": "left", "src": "192.168.38.116", "sport": 5000}.items() <= rows[
        0
    ].items()


def test_a_plot_shows_every_station_and_the_end() -> None:
    axes = nt.load("private-namespace.route").why("icmp 1.1.1.2 -> 9.9.9.9 at private", fixes=False).plot()
    shown = " ".join(t.get_text() for t in axes.texts)
    assert "private" in shown and "host" in shown and "dropped" in shown


def test_a_what_if_is_plotted_with_what_was_before() -> None:
    answer = nt.load("private-namespace.route").why(
        "icmp 1.1.1.2 -> 9.9.9.9 at private", fixes=False, set="net.ipv4.ip_forward=1 at host"
    )
    shown = [t.get_text() for t in answer.plot().texts]
    assert "before: dropped" in shown and any(t.startswith("with ") and t.endswith(": left") for t in shown)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_tables_of_each_kind_can_be_plotted(kind: str) -> None:
    from nattrace.sim import plots

    snapshot = nt.load("two-uplinks.running-ping")
    reach = plots.plot_reach(snapshot.reach(["icmp"], kind=kind))
    assert {t.get_text() for t in reach.texts} == {"✓", "✗"}
    assert "rules without any" in plots.plot_hits(snapshot.table("rules", kind)).get_title()
    latency = frame([{"stage": "routing", "us": 1.5}, {"stage": "confirm", "us": None}], ("stage", "us"), kind)
    assert [t.get_text() for t in plots.plot_latency(latency).get_yticklabels()] == ["routing"]


def test_the_cell_says_what_the_text_says_and_escapes_it() -> None:
    answer = nt.load("twice-through-conntrack").why(PING, sample=0)
    html = answer._repr_html_()
    for part in ("NOT TRANSLATED", "nat_decided_earlier", "← decided here", "CT --zone-orig 2", "re-simulated"):
        assert part in html
    assert "<script" not in html and "10.10.1.1 → 8.8.8.8" in html
