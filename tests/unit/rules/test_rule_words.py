"""One rule as people type it; what is accepted, and how it is printed, is what iptables 1.8.9 does (observed)."""

from __future__ import annotations

import pytest
from nattrace.sim.errors import RuleError
from nattrace.sim.rules import header
from nattrace.sim.rules.iptables import parse_rule, parse_rules, print_rule, print_spec
from nattrace.sim.rules.lexer import save_string, save_words
from nattrace.sim.rules.shell import typed_words


def printed(spec: str, table: str = "filter", chain: str = "INPUT", **options) -> str:
    return print_spec(parse_rule(f"-A {chain} {spec}", table=table, **options))


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("-s 10.0.0.0/255.0.255.0 ! -d 1.2.3.4", "-s 10.0.0.0/255.0.255.0 ! -d 1.2.3.4/32"),
        ("-p udp -s 10.0.0.5 -f", "-s 10.0.0.5/32 -p udp -f"),
        ("! -f -p 47", "-p gre ! -f"),
        ("-p 200", "-p 200"),
        ("-p TCP", "-p tcp"),
        ("-p 0x6", "-p tcp"),
        ("-p all -s 0.0.0.0/0 -d 1.2.3.4/0 -i +", ""),
        ("! -s 0.0.0.0/0", "! -s 0.0.0.0/0"),
        ("-i a+b", "-i a+b"),
        ("! -i eth+", "! -i eth+"),
        ("-s 10.0.0.5/255.255.255.254", "-s 10.0.0.4/31"),
        ("-s 10.0.0.0/0.0.0.255", "-s 0.0.0.0/0.0.0.255"),
        ("-s 10.0.0", "-s 10.0.0.0/32"),
        ("-s 010.0.0.1", "-s 8.0.0.1/32"),
        ("--sour 1.1.1.1 --protoc tcp", "-s 1.1.1.1/32 -p tcp"),
        ("-s ! 10.0.0.1", "! -s 10.0.0.1/32"),
        ("-p tcp --dport 80", "-p tcp -m tcp --dport 80"),
        ("-p tcp -m comment --comment x --dport=80", "-p tcp -m comment --comment x -m tcp --dport 80"),
        ("-p tcp --dport ! 80", "-p tcp -m tcp ! --dport 80"),
        ("-m tcp -p tcp --dport http", "-p tcp -m tcp --dport 80"),
        ("-p tcp -m tcp --dport 8 -m tcp --dport 9", "-p tcp -m tcp --dport 8 -m tcp --dport 9"),
        ("-p tcp -m tcp --sport 8 -j ACCEPT --dport 9", "-p tcp -m tcp --sport 8 --dport 9 -j ACCEPT"),
        ("-p tcp -j REJECT --dport 9 --reject-with tcp-reset", "-p tcp -m tcp --dport 9 -j REJECT --reject-with tcp-reset"),
        ("-m mark --mark 3 -s 1.1.1.1 -j KK", "-s 1.1.1.1/32 -m mark --mark 0x3 -j KK"),
        ("-g KK -c 3 4 -w", "-g KK"),
        ("-m comment --comment 'it''s' -j LOG --log-prefix \"a b \"", '-m comment --comment its -j LOG --log-prefix "a b "'),
        ('-m comment --comment "x \\"y\\" \\\\ $q \\\' z"', '-m comment --comment "x \\"y\\" \\\\ $q \\\' z"'),
        ("-m comment --comment ''", '-m comment --comment ""'),
        ("-m comment --comment '-j DROP'", '-m comment --comment "-j DROP"'),
        ("-m geoip ! --source-country AA -j TARPIT --tarpit", "-m geoip ! --source-country AA -j TARPIT --tarpit"),
    ],
)  # fmt: skip
def test_a_typed_rule_prints_as_iptables_save_prints_it(typed, wanted):
    assert printed(typed) == wanted
    assert printed(wanted) == wanted


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("-p tcp -dport 80", "did you mean --dport?"),
        ("--dport 80", "unknown option '--dport'"),
        ("-p tcp --dprt 80", "did you mean --dport?"),
        ("-m comemnt --comment x", "did you mean -m comment?"),
        ("-m limit --limt 3/s", "did you mean --limit?"),
        ("-p tpc", "did you mean tcp?"),
        ("-p 256", "no such protocol"),
        ("! -p all", "never matches"),
        ("-p tcp -p udp", "-p is given twice"),
        ("-s example.org", "names are not looked up"),
        ("-s ::1", "an IPv6 address in an IPv4 rule"),
        ("-s 10.1.2.3/8.8.8", "a bad mask"),
        ("-s 1.1.1.1/33", "a bad mask"),
        ("! -s 1.1.1.1,2.2.2.2", "takes one address, not a list"),
        ("-i ''", "is empty"),
        ("-i toolonginterfacename", "at most 15 characters"),
        ("-o eth0", "-o is not allowed in INPUT"),
        ("! ! -s 1.1.1.1", "two ! in a row"),
        ("-s 1.1.1.1 !", "a ! stands at the end"),
        ("! -j ACCEPT", "! cannot stand before -j"),
        ("! -m mark --mark 3", "! cannot stand before -m"),
        ("-j ACCEPT -j DROP", "a second -j"),
        ("-j", "-j needs a value"),
        ("-j INPUT", "a built-in chain"),
        ("-j acc ept", "belongs to no option"),
        ("-m comment --comment a --comment b", "can only be used once"),
        ("-m limit ! --limit 3/s", "cannot be negated"),
        ("-m icmp6", "does not exist for ip"),
        ("-j TOS --set-tos 4", "it works in table mangle"),
        ("-m owner --uid-owner 0", "it works in OUTPUT, POSTROUTING"),
        ("-m conntrack --ctorig 1.1.1.1", "is ambiguous"),
        ("-m comment --comment 'x", "never closed"),
    ],
)  # fmt: skip
def test_a_bad_rule_says_what_is_wrong_and_what_to_do(typed, wanted):
    with pytest.raises(RuleError) as caught:
        printed(typed)
    assert wanted in str(caught.value)


def test_nat_refuses_drop():
    with pytest.raises(RuleError, match="not allowed in table nat"):
        printed("-j DROP", table="nat", chain="OUTPUT")


def test_address_lists_make_a_rule_for_each_pair():
    rules = parse_rules("-A INPUT -s 1.1.1.1,2.2.2.2 -d 3.3.3.3,4.4.4.4 -j DROP", table="filter", index=5)
    assert [print_rule(r) for r in rules] == [
        "-A INPUT -s 1.1.1.1/32 -d 3.3.3.3/32 -j DROP",
        "-A INPUT -s 1.1.1.1/32 -d 4.4.4.4/32 -j DROP",
        "-A INPUT -s 2.2.2.2/32 -d 3.3.3.3/32 -j DROP",
        "-A INPUT -s 2.2.2.2/32 -d 4.4.4.4/32 -j DROP",
    ]
    assert [r.rule_id.index for r in rules] == [5, 6, 7, 8]
    with pytest.raises(RuleError, match="makes 4 rules"):
        parse_rule("-A INPUT -s 1.1.1.1,2.2.2.2 -d 3.3.3.3,4.4.4.4 -j DROP", table="filter")


def test_known_chains_make_a_mistyped_jump_an_error():
    with pytest.raises(RuleError, match="did you mean DOCKER\\?"):
        printed("-j DOKER", chains=["DOCKER"])
    assert printed("-j DOCKER", chains=["DOCKER"]) == "-j DOCKER"


@pytest.mark.parametrize(
    ("pattern", "device", "answer"),
    [("eth0", "eth0", True), ("eth0", "eth01", False), ("eth+", "eth01", True), ("eth+", "et", False), ("+", None, True),
     ("eth0", None, False), ("eth+", None, False), ("a+b", "a+b", True), ("eth0+", "eth0", True)],
)  # fmt: skip
def test_interface_names_compare_as_in_the_kernel(pattern, device, answer):
    assert header.interface_matches(pattern, device) is answer


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('-A X --comment "a b" -j Y', ["-A", "X", "--comment", "a b", "-j", "Y"]),
        ('a"b c"-j KK', ["ab c", "-j", "KK"]),
        ('"a"b', ["a", "b"]),
        ('""', [""]),
        ('a\\b "c\\"d\\e"', ["a\\b", 'c"de']),
        ("'a b'", ["'a", "b'"]),
    ],
)
def test_a_line_of_a_file_splits_as_iptables_restore_splits_it(line, words):
    assert save_words(line) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [("'a b' c", ["a b", "c"]), ("a'b'\"c\"", ["abc"]), ("a\\ b", ["a b"]), ("''", [""]), ('"a\\\'b"', ["a'b"])],
)
def test_a_typed_line_splits_as_a_shell_splits_it(line, words):
    assert typed_words(line) == words


@pytest.mark.parametrize("text", ["", "a", "a b", 'a"b', "a\\b", "a'b", "ä", "10.0.0.1", "a\tb"])
def test_a_quoted_string_reads_back(text):
    assert save_words(save_string(text)) == [text]
    assert typed_words(save_string(text)) == [text]
