"""Whatever a rule looks like, reading it ends in a rule or in an InputError that says where; and printing is inverse."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nattrace.sim.errors import InputError
from nattrace.sim.rules import registry
from nattrace.sim.rules.iptables import parse_rules, parse_save, print_rule
from nattrace.sim.rules.known import BUILT_IN, LONG

MATCHES = [registry.find_match(name) for name in registry.match_names()]
TARGETS = [registry.find_target(name) for name in registry.target_names()]
OPTIONS = sorted(
    {spelling for info in (*MATCHES, *TARGETS) for spelling in info.options} | set(LONG) | set(LONG.values())
)
_VALUES = (
    "0 1 80 80:90 :90 90: 65536 -1 0x10 010 1/2 0x1/0xff 10.0.0.1 10.0.0.0/8 1.2.3.4-1.2.3.9 1.2.3.4:80 1.2.3.4:80-90 ::1"
    " tcp udp icmp ipv6-icmp all eth0 eth+ + NEW NEW,ESTABLISHED SYN,ACK ALL NONE src src,dst echo-request 3/1 any in out random"
    " nth 0.5 1.5 3/sec 1/day 10kb/s 00:11:22:33:44:55 LOCAL unicast Mon,Tue 10:00 2026-01-01T00:00:00 srcip,dstport name none"
    " tcp-reset icmp-port-unreachable 2,8 4,48 1.2.3.0/24 ! - -- = \" ' \\ é \x00 9999999999999999999999 INPUT X ACCEPT"
)
VALUES = _VALUES.split(" ")
DOCS = [info.doc for info in (*MATCHES, *TARGETS)]
quick = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def rule_lines(draw) -> tuple[str, str]:
    """(table, line): options of the registry in any order with values of any kind, or an example gone wrong."""
    table = draw(st.sampled_from(sorted(BUILT_IN)))
    chain = draw(st.sampled_from([*BUILT_IN[table], "X"]))
    rng = random.Random(draw(st.integers(0, 1 << 32)))
    words = rng.choice(DOCS).split() if rng.random() < 0.6 else []
    for _ in range(rng.randrange(6)):
        kind = rng.random()
        new = [rng.choice(OPTIONS), rng.choice(VALUES)]
        if kind < 0.3:
            new = ["-m", rng.choice(MATCHES).name, *new]
        elif kind < 0.4:
            new = ["-j", rng.choice(TARGETS).name]
        elif kind < 0.5:
            new = ["!"]
        if words and kind > 0.8:
            del words[rng.randrange(len(words))]
        place = rng.randrange(len(words) + 1)
        words[place:place] = new
    return table, " ".join(["-A", chain, *words])


@given(rule_lines())
@quick
def test_no_line_raises_anything_but_an_input_error(case):
    table, line = case
    for family in (2, 10):
        try:
            rules = parse_rules(line, table=table, family=family)
        except InputError as error:
            assert error.message
            continue
        for rule in rules:
            text = print_rule(rule)
            (again,) = parse_rules(text, table=table, family=family)
            assert print_rule(again) == text
            assert again.matches == rule.matches and again.target == rule.target


@given(rule_lines(), st.booleans())
@quick
def test_a_file_and_a_typed_line_agree(case, strict):
    table, line = case
    chain = line.split()[1]
    declared = "" if chain != "X" else ":X - [0:0]\n"
    if chain != "X":
        declared = f":{chain} ACCEPT [0:0]\n"
    try:
        (found,) = parse_save(f"*{table}\n{declared}{line}\nCOMMIT\n", file="f", strict=strict)
        from_file = [print_rule(rule) for rule in found.all_rules()]
    except InputError:
        return
    if not any(c in line for c in "\"'\\"):
        try:
            assert from_file == [print_rule(rule) for rule in parse_rules(line, table=table, chains=["X"])]
        except InputError:
            # only a typed name is checked against the extensions that exist
            assert any(w in line for w in ("-j", "-m", "-g"))


SEED = """*nat
:PREROUTING ACCEPT [0:0]
:X - [0:0]
[1:2] -A PREROUTING -d 10.96.0.1/32 -p tcp -m comment --comment "a b" -m tcp --dport 443 -j X
[3:4] -A X -p tcp -j DNAT --to-destination 10.0.0.9:8443
COMMIT
*filter
:INPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
-I INPUT -s 1.1.1.1,2.2.2.2 -m set --match-set s src -j DROP
COMMIT
"""


@given(
    st.lists(st.tuples(st.integers(0, len(SEED)), st.integers(0, 12), st.text(max_size=6)), max_size=8), st.booleans()
)
@quick
def test_a_damaged_file_raises_nothing_but_an_input_error(cuts, strict):
    text = SEED
    for place, length, new in cuts:
        text = text[:place] + new + text[place + length :]
    try:
        tables = parse_save(text, file="f", strict=strict)
        for table in tables:
            table.uses_tracking()
            table.unread()
            for rule in table.all_rules():
                print_rule(rule)
    except InputError as error:
        assert str(error)


@given(st.text(max_size=300))
@quick
def test_any_text_is_refused_politely(text):
    for strict in (False, True):
        try:
            parse_save(text, file="f", strict=strict)
        except InputError as error:
            assert str(error)


@pytest.mark.parametrize(
    "line",
    ['"' * 9000, "\\" * 9000, "! " * 4000, "-m comment " * 800, '-m comment --comment "' + "\\" * 9000, "-s " + "1," * 4000,
     "-p tcp " + "--dport=" * 1000, "a" * 10_000_000, '"a" ' * 2500],
    ids=["quotes", "backslashes", "bangs", "matches", "open quote", "addresses", "equals", "ten megabytes", "words"],
)  # fmt: skip
def test_an_absurd_line_is_refused_in_no_time(line):
    import time

    start = time.process_time()
    with pytest.raises(InputError):
        parse_rules("-A INPUT " + line, table="filter")
    with pytest.raises(InputError):
        for table in parse_save(f"*filter\n-A INPUT {line}\nCOMMIT\n", file="f", strict=True):
            list(table.all_rules())
    assert time.process_time() - start < 1
