"""Editing a copy: the original stays, numbers move, unparsed rules stay unparsed."""

from __future__ import annotations

import pytest
from nattrace.sim.errors import InputError
from nattrace.sim.rules import edit
from nattrace.sim.rules.iptables import parse_save, print_spec

TEXT = (
    "*filter\n:INPUT ACCEPT [0:0]\n:X - [0:0]\n"
    + "".join(f"-A INPUT -s 10.0.0.{i}/32 -j X\n" for i in range(5))
    + "COMMIT\n"
)


def table():
    return parse_save(TEXT, file="save.txt")[0]


def specs(t, chain="INPUT") -> list[str]:
    c = t.chains[chain]
    rules = [c.rule(i) for i in range(1, len(c) + 1)]
    assert [r.rule_id.index for r in rules] == list(range(1, len(c) + 1))
    return [print_spec(r) for r in rules]


def test_an_inserted_rule_moves_the_numbers_of_those_behind_it():
    old = table()
    new = edit.insert_rule(old, "INPUT", 2, "-i eth0 -j ACCEPT")
    assert new.unread() == 5
    assert len(old.chains["INPUT"]) == 5
    assert specs(new)[:3] == ["-s 10.0.0.0/32 -j X", "-i eth0 -j ACCEPT", "-s 10.0.0.1/32 -j X"]
    assert str(new.chains["INPUT"].rule(2).where) == "(what-if)"
    assert new.chains["INPUT"].rule(3).where.line == 5


def test_rules_are_appended_replaced_and_deleted():
    t = edit.append_rule(table(), "INPUT", "-A INPUT -s 1.1.1.1,2.2.2.2 -j DROP")
    assert specs(t)[5:] == ["-s 1.1.1.1/32 -j DROP", "-s 2.2.2.2/32 -j DROP"]
    t = edit.delete_rule(t, "INPUT", 1)
    t = edit.delete_rule(t, "INPUT", "--source 10.0.0.3 --jump X")
    t = edit.replace_rule(t, "INPUT", 1, "-j X")
    assert specs(t)[:3] == ["-j X", "-s 10.0.0.2/32 -j X", "-s 10.0.0.4/32 -j X"]


def test_chains_and_policies_change():
    t = edit.new_chain(table(), "NEW")
    t = edit.append_rule(t, "NEW", "-j X")
    t = edit.append_rule(t, "INPUT", "-j NEW")
    t = edit.set_policy(t, "INPUT", "DROP")
    assert (t.chains["INPUT"].policy, specs(t, "NEW"), len(t.chains["INPUT"])) == ("DROP", ["-j X"], 6)
    assert specs(edit.flush_chain(t, "INPUT")) == []
    t = edit.append_rule(t, "FORWARD", "-j NEW")
    assert specs(t, "FORWARD") == ["-j NEW"]


def test_an_edit_can_switch_tracking_on_and_off():
    t = edit.append_rule(table(), "INPUT", "-m state --state NEW")
    assert (table().uses_tracking(), t.uses_tracking()) == (False, True)
    assert edit.delete_rule(t, "INPUT", 6).uses_tracking() is False


def test_an_empty_table_has_its_built_in_chains():
    t = edit.empty_table("nat")
    assert list(t.chains) == ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]
    t = edit.append_rule(t, "POSTROUTING", "-o eth0 -j MASQUERADE")
    t = edit.insert_rule(t, "POSTROUTING", 1, "-j ACCEPT")
    assert specs(t, "POSTROUTING") == ["-j ACCEPT", "-o eth0 -j MASQUERADE"]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda t: edit.insert_rule(t, "INPUT", 7, "-j X"), "the chain has 5 rules"),
        (lambda t: edit.delete_rule(t, "INPUT", 6), "has no rule 6"),
        (lambda t: edit.delete_rule(t, "INPUT", "-j X"), "has no such rule"),
        (lambda t: edit.append_rule(t, "INPT", "-j X"), "did you mean INPUT?"),
        (lambda t: edit.append_rule(t, "INPUT", "-j Y"), "no chain or target called 'Y'"),
        (lambda t: edit.append_rule(t, "INPUT", "-A OUTPUT -j X"), "for chain OUTPUT"),
        (lambda t: edit.set_policy(t, "X", "DROP"), "no policy"),
        (lambda t: edit.new_chain(t, "X"), "exists already"),
        (lambda t: edit.new_chain(t, "a b"), "not a name"),
        (lambda t: edit.empty_table("nta"), "no table"),
    ],
)
def test_what_iptables_would_refuse_is_refused(change, wanted):
    with pytest.raises(InputError) as caught:
        change(table())
    assert wanted in str(caught.value)


def test_an_edit_reads_no_other_chain():
    """A what-if over a large rule set costs what its chain costs, for whoever asks the whole table too."""
    rules = "".join(f"-A C{i} -j RETURN\n" for i in range(2000))
    chains = "".join(f":C{i} - [0:0]\n" for i in range(2000))
    (old,) = parse_save(
        f"*filter\n:INPUT ACCEPT [0:0]\n{chains}{rules}-A INPUT -m state --state NEW -j C1\nCOMMIT\n", file="s"
    )
    new = edit.insert_rule(old, "C5", 1, "-j ACCEPT")
    new = edit.append_rule(new, "INPUT", "-j C7")
    assert (new.unread(), old.unread(), new.uses_tracking(), new.mentions("--state")) == (2001, 2001, True, True)
    assert len(old.chains._made) < 5
    without = edit.delete_rule(new, "INPUT", 1)
    assert not without.uses_tracking() and new.uses_tracking()
    assert [name for name in without.chains if name in ("INPUT", "C5", "C7")] == ["INPUT", "C5", "C7"]
    assert specs(without, "C5") == ["-j ACCEPT", "-j RETURN"]
