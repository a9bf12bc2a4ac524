"""The registry of codes: complete, readable, and every code that the program uses is in it."""

from __future__ import annotations

import re
from pathlib import Path

import nattrace.sim
import pytest
from nattrace.sim.explain.reasons import DIAGNOSIS, REASON, Code, codes, find, similar

# The contract's list; codes are never renamed.
REASONS = frozenset(
    re.findall(
        r"\w+",
        """delivered_local no_listener left_at_edge dropped_by_rule dropped_by_policy rejected_by_rule ip_forward_disabled
forwarding_disabled_on_interface rp_filter martian_source martian_destination route_localnet_off accept_local_off no_route
route_unreachable route_prohibit route_blackhole rule_blackhole neighbour_failed ttl_exceeded fragmentation_needed
conntrack_clash conntrack_full conntrack_invalid nat_ports_exhausted masquerade_no_address masquerade_interface_changed
send_failed queue_without_listener looped unmodelled_match missing_input""",
    )
)
DIAGNOSES = frozenset(
    re.findall(
        r"\w+",
        """nat_decided_earlier existing_entry stale_entry rule_shadowed criterion_failed chain_not_consulted
wrong_chain_for_local mark_too_late no_return_route reply_bypasses_nat asymmetric_return zone_mismatch helper_missing
source_not_owned listener_bound_elsewhere src_valid_mark_off owner_never_matches other_backend set_mismatch
private_source_leaves double_nat""",
    )
)

_USED = re.compile(r"""(?:\bReason\(|\breason=|\bcode=)\s*"([a-z][a-z0-9_]+)\"""")


@pytest.mark.parametrize(("names", "kind"), [(REASONS, REASON), (DIAGNOSES, DIAGNOSIS)], ids=["reasons", "diagnoses"])
def test_every_code_of_the_contract_is_explained(names: frozenset[str], kind: str) -> None:
    missing = [name for name in names if (entry := find(name)) is None or entry.kind != kind]
    assert not missing


@pytest.mark.parametrize("entry", codes(), ids=lambda entry: entry.code)
def test_an_entry_is_complete_and_short(entry: Code) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]+", entry.code)
    assert entry.title and entry.title[-1] != "." and len(entry.title) <= 60
    for text in (entry.meaning, entry.shows):
        assert text.endswith(".") and len(text) <= 480
    assert all(line and len(line) <= 200 for line in entry.cure)
    unknown = [code for code in entry.see if find(code) is None]
    assert not unknown
    assert entry.code not in entry.see


def test_every_code_that_the_program_uses_is_explained() -> None:
    used: dict[str, str] = {}
    for path in Path(nattrace.sim.__path__[0]).rglob("*.py"):
        for code in _USED.findall(path.read_text()):
            used.setdefault(code, path.name)
    assert {code: file for code, file in used.items() if find(code) is None} == {}


def test_a_code_is_found_however_it_is_typed_and_a_typo_is_answered() -> None:
    entry = find(" IP-Forward-Disabled ")
    assert entry is not None and entry.code == "ip_forward_disabled"
    assert find("ip_forwarding") is None
    assert "ip_forward_disabled" in similar("ip_forwarding_disabled")
