"""Symptoms in the users' words: understood, and explained by what was tested, not by the look of it."""

from __future__ import annotations

import jsonschema
import pytest
from nattrace.sim.errors import InputError
from nattrace.sim.explain.answer import Explanation, explain
from nattrace.sim.explain.parts import WORKS
from nattrace.sim.explain.symptoms import SYMPTOMS, understand
from nattrace.sim.explain.whatif import Edit, RouteEdit, RuleEdit, SetSysctl, apply_all
from nattrace.sim.flow import parse_flow
from nattrace.sim.model.world import World
from nattrace.sim.render.schema import why as why_schema
from nattrace.sim.render.text import render
from nattrace.tracer.cli import run

from ...smallest.broken import sound

HTTPS = "tcp 10.0.0.2:40000 -> 8.8.8.8:443 at client"
DNS = "udp 10.0.0.2:40000 -> 9.9.9.9:53 at client"
HAIRPIN = "tcp 10.0.0.2:40000 -> 203.0.113.2:80 at client"


def examined(flow: str, symptom: str, *edits: Edit, world: World | None = None) -> Explanation:
    changed = apply_all(sound() if world is None else world, list(edits))
    return explain(changed, parse_flow(flow, changed), symptom=symptom, sample=0)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("no reply", "no reply"), ("No answer!", "no reply"), ("it times out", "no reply"), ("the request timed out", "no reply"),
        ("hangs", "no reply"), ("it doesn't answer", "no reply"), ("nothing comes back", "no reply"), ("cannot connect", "no reply"),
        ("connection refused", "connection refused"), ("ECONNREFUSED", "connection refused"), ("it is refused", "connection refused"),
        ("port unreachable", "connection refused"), ("connection reset", "connection refused"),
        ("works from outside, not from inside", "works from outside, not from inside"), ("hairpin", "works from outside, not from inside"),
        ("works from the internet but not from the LAN", "works from outside, not from inside"),
        ("fine externally, external ok but not internal", "works from outside, not from inside"),
        ("works for a minute", "works for a minute"), ("works for a while, then hangs", "works for a minute"),
        ("stops after 5 minutes", "works for a minute"), ("disconnects when idle", "works for a minute"),
        ("ping works, tcp does not", "ping works, tcp does not"), ("ping ok but ssh hangs", "ping works, tcp does not"),
        ("icmp works, http doesn't", "ping works, tcp does not"), ("small files work, large ones hang", "ping works, tcp does not"),
        ("only the first packet", "only the first packet"), ("works once", "only the first packet"),
        ("the first packet passes, then nothing", "only the first packet"),
    ],
)  # fmt: skip
def test_near_phrasing_is_understood(words: str, name: str) -> None:
    assert understand(words).name == name


@pytest.mark.parametrize("words", ["", "purple rain", "first", "tcp"])
def test_other_words_are_an_error_that_lists_what_is_known(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError) as caught:
        understand(words)
    assert all(s.name in str(caught.value.remedy) for s in SYMPTOMS)


def test_an_unknown_symptom_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["why", "114.114.114.114 at private", "-S", "private-namespace", "--symptom", "purple rain"])
    assert status == 2 and "'works for a minute'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flow", "symptom", "edits", "code", "words"),
    [
        (HTTPS, "no reply", (RuleEdit("router", "-I FORWARD -p tcp --dport 443 -j DROP"),), "dropped_by_rule", "never arrives"),
        (HTTPS, "no reply", (RouteEdit("client", "blackhole 8.8.8.8"),), "route_blackhole", "blackhole"),
        (HTTPS, "no reply", (RuleEdit("router", "-I FORWARD -p tcp --sport 443 -j DROP"),), "dropped_by_rule", "the reply is lost"),
        (HTTPS, "connection refused", (RuleEdit("router", "-I FORWARD -p tcp --dport 443 -j REJECT --reject-with tcp-reset"),),
         "rejected_by_rule", "a rule refuses"),
        ("tcp 10.0.0.2:40000 -> 10.0.0.1:23 at client", "connection refused", (), "no_listener", "router itself refuses"),
        (HAIRPIN, "works from outside, not from inside", (), "criterion_failed", "outside the destination becomes 10.0.1.2"),
        (DNS, "works for a minute", (), "entry_expired", "lives for 30 s of silence"),
        (HTTPS, "ping works, tcp does not", (RuleEdit("router", "-I FORWARD -p tcp -j DROP"),), "dropped_by_rule", "a ping passes"),
        (HTTPS, "only the first packet", (), "existing_entry", "counts connections"),
        (DNS, "only the first packet", (RuleEdit("router", "-I FORWARD -p udp -m conntrack --ctstate ESTABLISHED --ctdir ORIGINAL -j DROP"),),
         "dropped_by_rule", "second packet of the client"),
    ],
)  # fmt: skip
def test_what_explains_comes_first(flow: str, symptom: str, edits: tuple[Edit, ...], code: str, words: str) -> None:
    found = examined(flow, symptom, *edits)
    assert found.symptom is not None
    first = found.symptom.hypotheses[0]
    assert first.explains and first.code == code and words in first.text
    explains = [h.explains for h in found.symptom.hypotheses]
    assert explains == sorted(explains, reverse=True)


@pytest.mark.parametrize("symptom", [s.name for s in SYMPTOMS if s.name != "only the first packet"])
def test_what_works_is_not_explained_away(symptom: str) -> None:
    found = examined("tcp 10.0.1.2:40000 -> 8.8.8.8:443 at server", symptom)
    assert found.symptom is not None and found.symptom.explained == [] and found.symptom.hypotheses
    assert "nothing that was tested explains it" in render(found)


def test_a_drop_does_not_explain_a_refusal() -> None:
    found = examined(HTTPS, "connection refused", RuleEdit("router", "-I FORWARD -p tcp -j DROP"))
    assert found.symptom is not None and not found.symptom.explained
    assert "time-out" in found.symptom.hypotheses[0].text


def test_full_size_packets_are_tried_where_small_ones_pass() -> None:
    narrow = RouteEdit("router", "8.8.8.8 via 203.0.113.1 dev eth1 mtu 1400")
    found = examined(HTTPS, "ping works, tcp does not", narrow)
    assert found.symptom is not None
    first = found.symptom.hypotheses[0]
    assert (first.code, first.explains) == ("fragmentation_needed", True)
    assert any("TCPMSS --clamp-mss-to-pmtu" in c for f in found.fixes for _, c in f.steps() if f.result == WORKS)


def test_a_longer_timeout_is_offered_because_it_was_tried() -> None:
    found = examined(DNS, "works for a minute")
    fix = next(f for f in found.fixes if f.result == WORKS)
    assert isinstance(fix.edits[0], SetSysctl) and fix.edits[0].name == "net.netfilter.nf_conntrack_udp_timeout"
    long_lived = examined(DNS, "works for a minute", SetSysctl("router", fix.edits[0].name, "86400"))
    assert long_lived.symptom is not None and not long_lived.symptom.explained


def test_the_answer_has_it_in_text_and_json() -> None:
    found = examined(HTTPS, "it times out", RuleEdit("router", "-I FORWARD -p tcp -j DROP"))
    document = found.to_json()
    jsonschema.validate(document, why_schema())
    assert document["symptom"]["symptom"] == "no reply" and document["symptom"]["explained"] is True
    text = render(found)
    assert "SYMPTOM  it times out (taken as 'no reply'): explained" in text and "✓" in text


@pytest.mark.parametrize("symptom", ["ping works, tcp does not", "works for a minute"])
def test_what_never_works_does_not_explain_that_some_of_it_does(symptom: str) -> None:
    """Where neither a ping nor TCP passes, and no connection is left from before, the snapshot is not what is complained of."""
    found = examined(HTTPS, symptom, RuleEdit("router", "-I FORWARD -j DROP"))
    assert found.symptom is not None and not found.symptom.explained
    assert (found.symptom.hypotheses[0].code, found.diagnosis[0].code) == ("dropped_by_rule", "dropped_by_rule")
