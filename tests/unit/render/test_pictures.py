"""Pictures as text: well-formed SVG, a graph that Graphviz takes, Mermaid by its grammar, Markdown that stays text."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import nattrace as nt
import pytest
from nattrace.sim.render import dot, markdown, mermaid, svg
from nattrace.sim.render.drawing import Box, Group, Text
from nattrace.sim.render.html import page
from nattrace.sim.render.journey import journeys
from nattrace.sim.render.picture import tall, wide
from nattrace.tracer import cli

QUESTIONS = [
    ("twice-through-conntrack", "icmp 10.10.1.1 -> 8.8.8.8 at client"),
    ("twice-through-conntrack.zone-on-proxy-only", "icmp 10.10.1.1 -> 8.8.8.8 at client"),
    ("two-uplinks", "172.31.26.176 -> 203.0.113.9"),
    ("two-uplinks.running-ping", "172.31.26.176 -> 203.0.113.9"),
    ("private-namespace", "114.114.114.114 at private"),
    ("private-namespace.no-route", "114.114.114.114 at private"),
    ("per-user-source", "8.8.8.8 uid userB at host"),
    ("nonexistent-address.route", "192.168.100.1 -> 192.168.100.3"),
    ("nonexistent-address", "tcp 192.168.100.1 -> 192.168.100.3:80"),
]
HOSTILE = r"""a"b]}; end --> x["y"] %%{init}%% \" <b onload=x>&amp;| `c` **d** [l](http://e) $f$ ~g~ @h #i !j"""


@pytest.fixture(params=QUESTIONS, ids=lambda q: q[0])
def answer(request: pytest.FixtureRequest):
    snapshot, flow = request.param
    return nt.load(snapshot).why(flow, sample=0)._explanation


@pytest.fixture
def hostile(tmp_path: Path):
    rules = tmp_path / "rules.txt"
    comment = HOSTILE.replace("\\", "\\\\").replace('"', '\\"')
    rules.write_text(
        f'*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -d 10.9.9.9/32 -m comment --comment "{comment}" -j DROP\nCOMMIT\n'
    )
    return nt.load(None, iptables_save=rules).why("tcp 10.0.0.1 -> 10.9.9.9:80 in eth0")._explanation  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- the drawing itself


def boxes(shapes, kinds=("station", "device", "strip")):
    return [s for s in shapes if isinstance(s, Box) and s.role.split()[0] in kinds]


def fits(drawing) -> None:
    """Nothing overlaps and nothing sticks out."""
    flat = [s for shape in drawing.shapes for s in (shape.shapes if isinstance(shape, Group) else [shape])]
    found = boxes(flat)
    for i, a in enumerate(found):
        assert a.x >= 0 and a.x + a.w <= drawing.width + 0.01 and a.y + a.h <= drawing.height
        for b in found[i + 1 :]:
            assert a.x + a.w <= b.x or b.x + b.w <= a.x or a.y + a.h <= b.y or b.y + b.h <= a.y, (a, b)
    for text in flat:
        if isinstance(text, Text):
            char = 6.65 if text.role.split()[0] not in ("title", "ending") else 7.5
            size = len(text.text) * char
            left = text.x - (size if text.anchor == "end" else 0)
            assert left >= -1 and left + size <= drawing.width + 4, text


def stands_for_its_steps(journey, drawing) -> None:
    drawn = [n for shape in drawing.shapes if isinstance(shape, Group) for n in shape.steps]
    assert sorted(drawn) == [e.number for e in journey.events]


@pytest.mark.parametrize("layout", [wide, tall])
def test_nothing_overlaps_and_every_step_has_its_box(answer, layout) -> None:
    for journey in journeys(answer):
        fits(layout(journey))
        stands_for_its_steps(journey, layout(journey))


CAUSES = sorted((Path(__file__).resolve().parents[3] / "docs" / "causes").glob("*/cause.toml"))


@pytest.mark.parametrize("cause", CAUSES, ids=lambda path: path.parent.name)
def test_so_do_the_pictures_of_the_catalogue(cause: Path) -> None:
    flow = tomllib.loads(cause.read_text())["flow"]
    for journey in journeys(nt.load(cause.parent / "snapshot").why(flow, fixes=False)._explanation):
        for layout in (wide, tall):
            fits(layout(journey))
            stands_for_its_steps(journey, layout(journey))


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("conntrack-full", "table full → DROP"),
        ("clash-at-confirm", "clash → DROP"),
        ("snat-ports-exhausted", "no free port → DROP"),
    ],
)
def test_a_box_in_which_the_packet_ends_says_so(cause: str, said: str) -> None:
    """An entry that is refused was drawn as "entry confirmed", one that is not made as "seen"."""
    home = Path(__file__).resolve().parents[3] / "docs" / "causes" / cause
    flow = tomllib.loads((home / "cause.toml").read_text())["flow"]
    picture = svg.svg(nt.load(home / "snapshot").why(flow, sample=0)._explanation)
    assert said in picture and "entry confirmed" not in picture.partition(said)[2]


def test_long_addresses_fit(tmp_path: Path) -> None:
    rules = tmp_path / "rules6.txt"
    rules.write_text("*nat\n:POSTROUTING ACCEPT\n-A POSTROUTING -o eth1 -j MASQUERADE\nCOMMIT\n")
    flow = "udp [2001:db8:aaaa:bbbb:cccc:dddd:eeee:5]:5353 -> [2001:db8:ffff:ffff:ffff:ffff:ffff:9]:53 in eth0"
    for journey in journeys(nt.load(None, ip6tables_save=rules).why(flow)._explanation):  # type: ignore[arg-type]
        fits(wide(journey))
        fits(tall(journey))


def test_the_way_that_is_drawn_is_the_one_that_was_gone() -> None:
    x = nt.load("private-namespace").why("114.114.114.114 at private")._explanation
    last = journeys(x)[0].passes[-1]
    assert last.way[: last.reached] == ("in", "PREROUTING", "routing")
    assert last.ends_here
    text = svg.svg(x)
    assert "✗ ends here" in text
    assert text.count('class="station ended"') == 1


def test_the_order_of_cells_is_the_kernels(tmp_path: Path) -> None:
    rules = tmp_path / "rules.txt"
    tables = {"raw": ("PREROUTING", "OUTPUT"), "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
              "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"), "filter": ("INPUT", "FORWARD", "OUTPUT")}  # fmt: skip
    rule = "-A POSTROUTING -o eth9 -j MASQUERADE\n"
    text = [(t, "".join(f":{c} ACCEPT [0:0]\n" for c in chains) + rule * (t == "nat")) for t, chains in tables.items()]
    rules.write_text("".join(f"*{table}\n{body}COMMIT\n" for table, body in text))
    x = nt.load(None, iptables_save=rules).why("tcp 10.0.0.1 -> 10.9.9.9:80 in eth0")._explanation  # type: ignore[arg-type]
    cells = journeys(x)[0].passes[0].cells
    present = {hook: [c.name for c in found if c.present] for hook, found in cells.items()}
    assert present["PREROUTING"] == ["raw", "conntrack", "mangle", "nat"]
    assert present["OUTPUT"] == ["raw", "conntrack", "mangle", "nat", "filter"]
    assert present["POSTROUTING"] == ["mangle", "nat", "confirm"]
    assert present["INPUT"] == ["mangle", "filter", "nat", "confirm"]
    assert present["FORWARD"] == ["mangle", "filter"]


# ------------------------------------------------------------------------------------------------ the forms


def test_svg_is_well_formed_and_asks_for_nothing(answer) -> None:
    text = svg.svg(answer)
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"url\((?!#)|@import|<script|\son\w+=", text)


def test_graphviz_takes_the_graph(answer) -> None:
    drawn = subprocess.run(
        [shutil.which("dot") or "dot", "-Tsvg"], input=dot.dot(answer), capture_output=True, text=True, check=False
    )
    assert (drawn.returncode, drawn.stderr) == (0, "")
    for journey in journeys(answer):
        assert all(one.host in drawn.stdout for one in journey.passes)


LABEL = r'"[^"\[\]{}<>|`;]*(?:(?:<br/>|#\d+;)[^"\[\]{}<>|`;]*)*"'
MERMAID = re.compile(
    rf"(%% .*|flowchart TD| *subgraph \w+\[{LABEL}\]| *end| *\w+\[{LABEL}\](:::\w+)?| *\w+\(\[{LABEL}\]\)(:::\w+)?| *\w+ --> \w+| *classDef \w+ [\w:#,. -]+)"
)


def follows_the_grammar(text: str) -> None:
    """Flowchart statements of mermaid.js.org/syntax/flowchart, as far as they are used; every node is declared once."""
    lines = text.splitlines()
    assert [line for line in lines if not MERMAID.fullmatch(line)] == []
    assert sum(line.strip().startswith("subgraph") for line in lines) == sum(line.strip() == "end" for line in lines)
    assert "%%{" not in text
    nodes = [m[1] for line in lines[1:] if (m := re.match(r" *(\w+)[\[(]", line))]
    assert len(nodes) == len(set(nodes))
    used = {name.strip() for line in lines[1:] if " --> " in line for name in line.split(" --> ")}
    assert used <= set(nodes)
    assert "end" not in nodes


def test_mermaid_follows_its_grammar(answer) -> None:
    follows_the_grammar(mermaid.mermaid(answer))


def test_markdown_says_what_the_answer_says(answer) -> None:
    text = markdown.markdown(answer)
    assert text.count("\n```") % 2 == 0
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {5}
    for journey in journeys(answer):
        assert all(f"| {e.number} | " in text for e in journey.events)


def test_words_from_outside_are_nobodys_syntax(hostile) -> None:
    follows_the_grammar(mermaid.mermaid(hostile))
    drawn = subprocess.run(["dot", "-Tsvg"], input=dot.dot(hostile), capture_output=True, text=True, check=False)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    ET.fromstring(svg.svg(hostile))
    text = markdown.markdown(hostile)
    outside = re.sub(r"(?s)```.*?```|``.*?``|`[^`]*`", "", text)
    assert "<b" not in outside
    assert not re.search(r"(?<!\\)\[l(?<!\\)\]", outside)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {5}
    assert "<b onload" not in page(hostile)


# ---------------------------------------------------------------------------------------- the command line


def test_files_and_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flow, snap = "114.114.114.114 at private", ["-S", "private-namespace"]
    assert (
        cli.run(
            [
                "why",
                flow,
                *snap,
                "--html",
                "a.html",
                "--svg",
                "a.svg",
                "--mermaid",
                "a.mmd",
                "--dot",
                "a.dot",
                "--markdown",
                "a.md",
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert out.startswith("DROPPED")
    assert [(tmp_path / f"a.{e}").stat().st_size > 500 for e in ("html", "svg", "mmd", "dot", "md")] == [True] * 5
    assert err.count("written") == 5
    for option, first in (("--mermaid", "%%"), ("--dot", "digraph"), ("--markdown", "## ")):
        assert cli.run(["why", option, flow, *snap]) == 0
        assert capsys.readouterr().out.startswith(first)
        assert cli.run(["why", flow, *snap, f"{option}=-"]) == 0
        assert capsys.readouterr().out.startswith(first)
    assert cli.run(["why", flow, *snap, "--html", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")


def test_two_documents_do_not_share_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--mermaid", "--dot"], ["--json", "--markdown"]):
        assert cli.run(["why", "114.114.114.114 at private", "-S", "private-namespace", *more]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert more[0] in err


def test_a_file_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.run(["why", "114.114.114.114 at private", "-S", "private-namespace", "--html", "/nonexistent/a.html"]) == 2
    )
    assert "/nonexistent/a.html" in capsys.readouterr().err
