"""Every registered match and target against its documented example, and against the real iptables."""

from __future__ import annotations

import itertools
import os
import random
import re
import shlex
import shutil
import subprocess
from functools import cache

import pytest
from nattrace.sim.errors import RuleError
from nattrace.sim.model.rule import HOOK_NAME
from nattrace.sim.rules import registry, shortcuts, tracking
from nattrace.sim.rules.builder import Scope
from nattrace.sim.rules.iptables import parse_rule, parse_save, print_spec
from nattrace.sim.rules.jump import Goto, Jump
from nattrace.sim.rules.known import BUILT_IN
from nattrace.sim.rules.registry import Info

NETNS = f"prs-{os.getpid()}"
ENTRIES = [("-m", name) for name in registry.match_names()] + [("-j", name) for name in registry.target_names()]


def info_of(entry: tuple[str, str]) -> Info:
    found = registry.find_match(entry[1]) if entry[0] == "-m" else registry.find_target(entry[1])
    assert found is not None
    return found


@cache
def place(entry: tuple[str, str]) -> tuple[str, str]:
    """A table and chain that take its example."""
    info = info_of(entry)
    for table in info.tables or ("filter", "mangle", "nat"):
        for chain in BUILT_IN[table]:
            if info.hooks is None or HOOK_NAME.index(chain) in info.hooks:
                try:
                    parse_rule(f"-A {chain} {info.doc}", table=table, family=info.families[0])
                except RuleError as error:
                    if "not allowed in" not in error.message:
                        raise
                else:
                    return table, chain
    raise AssertionError(info)


def read(entry: tuple[str, str], spec: str) -> str:
    table, chain = place(entry)
    return print_spec(parse_rule(f"-A {chain} {spec}", table=table, family=info_of(entry).families[0]))


def own_part(entry: tuple[str, str], text: str) -> str:
    """Without the header part, whose protocol may be written as a number."""
    return text[text.index(f" {entry[0]} ") :] if text[:3] != f"{entry[0]} " else text


@pytest.mark.parametrize("entry", ENTRIES, ids=" ".join)
def test_the_documented_example_prints_back(entry):
    doc = info_of(entry).doc
    once = read(entry, doc)
    assert own_part(entry, once) == own_part(entry, doc)
    assert read(entry, once) == once


@pytest.mark.parametrize("entry", ENTRIES, ids=" ".join)
def test_the_documented_example_reads_the_same_from_a_file(entry):
    info = info_of(entry)
    table, chain = place(entry)
    text = f"*{table}\n:{chain} ACCEPT [0:0]\n-A {chain} {info.doc}\nCOMMIT\n"
    (found,) = parse_save(text, file="save.txt", family=info.families[0], strict=True)
    assert print_spec(found.chains[chain].rule(1)) == read(entry, info.doc)


def test_everything_that_tracks_is_looked_for_in_the_text():
    tracking_names = {name for dash, name in ENTRIES if info_of((dash, name)).cls.tracks}
    assert tracking_names <= set(tracking.NAMES)
    assert {"state", "conntrack", "DNAT", "MASQUERADE", "CONNMARK"} <= tracking_names


SAMPLES = {
    "comment": ['comment --comment "a -> b"', "comment --comment x"],
    "tcp": ["tcp --dport 1", "tcp --dport 59999"],
    "udp": ["udp --dport 53"],
    "statistic": [
        "statistic --mode random --probability 0.33333333349",
        "statistic --mode random --probability 0.00000000000",
    ],
    "DNAT": ["DNAT --to-destination 10.0.0.1:80", "DNAT --to-destination 255.255.255.255:59999"],
    "SNAT": ["SNAT --to-source 0.0.0.0", "SNAT --to-source 199.249.250.9"],
}


@pytest.mark.parametrize("name", [*shortcuts.MATCHES, *shortcuts.TARGETS])
def test_what_is_valid_by_its_shape_is_valid(name):
    pattern = shortcuts.MATCHES.get(name) or shortcuts.TARGETS[name]
    dash = "-m" if name in shortcuts.MATCHES else "-j"
    chain = {"DNAT": "PREROUTING", "SNAT": "POSTROUTING"}.get(name, "OUTPUT")
    proto = name if name in ("tcp", "udp") else "tcp"
    for sample in SAMPLES[name]:
        assert pattern.fullmatch(sample)
        spec = f"-p {proto} {dash} {sample}"
        assert print_spec(parse_rule(f"-A {chain} {spec}", table="nat")) == spec


def test_what_is_invalid_has_not_the_valid_shape():
    for piece in (
        'comment --comment "' + "x" * 256 + '"',
        "tcp --dport 99999",
        "tcp --dport 0080",
        "udp --dport 80:90",
    ):
        assert not shortcuts.MATCHES[piece.split()[0]].fullmatch(piece)
    for piece in (
        "DNAT --to-destination 256.0.0.1:80",
        "DNAT --to-destination 1.1.1.1",
        "DNAT --to-destination 1.1.1.1:70000",
    ):
        assert not shortcuts.TARGETS["DNAT"].fullmatch(piece)
    assert not shortcuts.HEADER.fullmatch(" -s 10.0.0.0/33") and not shortcuts.HEADER.fullmatch(" -s 010.0.0.1")


HEADERS = ["", " -d 10.0.0.1/32", " ! -s 10.0.0.0/8 -d 10.1.2.3", " -s 10.0.0.1/33", " -d 10.0.0.256/32"]
PROTOS = ["", " -p tcp", " -p udp", " -p icmp", " ! -p tcp"]
COMMENTS = [
    "",
    ' -m comment --comment "a -j DROP -m tcp"',
    " -m comment --comment x",
    ' -m comment --comment "' + "y" * 256 + '"',
]
PORTS = [
    "",
    " -m tcp",
    " -m tcp --dport 80",
    " -m udp --dport 5353",
    " -m tcp --dport 70000",
    " -m tcp --dport 80 --dport 81",
]
SHARES = [
    "",
    " -m statistic --mode random --probability 0.25000000000",
    " -m statistic --mode random --probability 1.5",
]
ACTIONS = [" -j ACCEPT", " -j mine", " -j other", " -j INPUT", " -j DNAT --to-destination 10.0.0.9:80", " -j DNAT", " -g mine",
           " -j mine --to-destination 10.0.0.9:80", " -j XFUTURE", ""]  # fmt: skip


class Refused(str):
    """Words of an error."""


@pytest.mark.parametrize("table", ["nat", "filter"])
@pytest.mark.parametrize("chain", ["PREROUTING", "OUTPUT", "user"])
def test_a_rule_valid_by_the_shape_of_another_is_valid_by_itself(table, chain):
    """Every shape is met again and again: what one of them proved must be true of all."""

    def outcome(check, spec):
        try:
            return check(spec)
        except RuleError as error:
            return Refused(str(error))

    shared = Scope(table, 2, None, None, {"mine", "user"}).place(chain)
    specs = ["".join(parts) for parts in itertools.product(HEADERS, PROTOS, COMMENTS, PORTS, SHARES, ACTIONS)]
    random.Random(7).shuffle(specs)
    for spec in specs[:3000]:
        alone, exact = (Scope(table, 2, None, None, {"mine", "user"}).place(chain) for _ in range(2))
        found = outcome(shared.check, spec)
        assert found == outcome(alone.check, spec)
        by_words = outcome(lambda text, place=exact: _called(place, text), spec)
        # of two errors in a line either may be the one that is told
        assert found == by_words or (isinstance(found, Refused) and isinstance(by_words, Refused))


def _called(place, spec):
    target = place.exact(spec)[0].target
    return target.chain if isinstance(target, (Jump, Goto)) else None


# ── the real iptables ──

# What a kernel may refuse although the example is right: it names an object that is not there (cgroup path, accounting
# object, estimator, SELinux context), or needs a module that is often left out, or one backend does not have it.
REFUSABLE = {
    ("-m", "cgroup"), ("-m", "ipvs"), ("-m", "nfacct"), ("-m", "rateest"), ("-j", "CLUSTERIP"), ("-j", "LED"),
    ("-j", "QUEUE"), ("-j", "SECMARK"), ("-j", "TRACE"), ("-j", "ULOG"),
}  # fmt: skip


def can_use_kernel() -> bool:
    return os.geteuid() == 0 and all(shutil.which(tool) for tool in ("ip", "iptables-nft", "iptables-legacy"))


def run(script: str) -> str:
    """A shell script in the test's namespace; its standard output."""
    command = ["ip", "netns", "exec", NETNS, "sh"]
    return subprocess.run(command, check=False, input=script, capture_output=True, text=True, timeout=120).stdout


def set_commands(doc: str) -> list[str]:
    """ipset commands for the sets that an example names."""
    found = re.findall(r"--(?:match|add|del|map)-set (\S+) (\S+)", doc)
    return [
        f"ipset create {name} hash:{','.join(('ip', 'port', 'net')[: flags.count(',') + 1])} 2>&-"
        for name, flags in found
    ]


@pytest.fixture(scope="module", params=["nft", "legacy"])
def saved(request):
    """{number of the entry: the line iptables-save prints} for one backend; those it refused are missing."""
    if not can_use_kernel():
        pytest.skip("needs root, ip and both iptables")
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        lines = []
        for number, entry in enumerate(ENTRIES):
            info = info_of(entry)
            table, chain = place(entry)
            tool = f"{'iptables' if 2 in info.families else 'ip6tables'}-{request.param}"
            lines += set_commands(info.doc)
            spec = " ".join(map(shlex.quote, shlex.split(f"-m comment --comment n{number} {info.doc}")))
            lines.append(f"{tool} -w -t {table} -A {chain} {spec} 2>&-")
        lines += [f"{tool}-{request.param}-save" for tool in ("iptables", "ip6tables")]
        out = run("\n".join(lines) + "\n")
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=True)
    found = {}
    for line in out.splitlines():
        number = re.search(r"-m comment --comment n(\d+)\b", line)
        if number:
            found[int(number.group(1))] = line
    return request.param, found


@pytest.mark.kernel
@pytest.mark.parametrize("number", range(len(ENTRIES)), ids=[" ".join(entry) for entry in ENTRIES])
def test_iptables_save_prints_the_example_as_nattrace_does(saved, number):
    backend, found = saved
    if number not in found:
        assert ENTRIES[number] in REFUSABLE, f"iptables-{backend} refuses the documented example"
        return
    info = info_of(ENTRIES[number])
    table, chain = place(ENTRIES[number])
    line = found[number]
    text = f"*{table}\n:{chain} ACCEPT [0:0]\n{line}\nCOMMIT\n"
    (read_back,) = parse_save(text, file="save.txt", family=info.families[0], strict=True)
    ours = "-A " + chain + " " + read(ENTRIES[number], f"-m comment --comment n{number} {info.doc}")
    assert ours == line
    assert "-A " + chain + " " + print_spec(read_back.chains[chain].rule(1)) == line
