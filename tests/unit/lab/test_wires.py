"""Which interfaces share a wire, from ``ip -j -d link`` alone."""

from __future__ import annotations

from typing import Any

from nattrace.tracer.capture.wires import segments


def link(index: int, name: str, kind: str = "veth", **more: Any) -> dict[str, Any]:
    data = more.pop("data", {})
    return {"ifindex": index, "ifname": name, "linkinfo": {"info_kind": kind, "info_data": data}, **more}


def vlan(index: int, name: str, on: str, number: int, protocol: str = "802.1Q") -> dict[str, Any]:
    return link(index, name, "vlan", link=on, data={"id": number, "protocol": protocol})


def wires(*rows: dict[str, Any]) -> list[list[str]]:
    return [s["members"] for s in segments({"h": list(rows)}, {"h": None}, {"h"})]


PAIR = (link(1, "a", link="b"), link(2, "b", link="a"))


def test_the_ends_of_a_pair() -> None:
    assert wires(*PAIR) == [["h:a", "h:b"]]


def test_vlans_of_one_number_on_one_wire() -> None:
    found = wires(
        *PAIR,
        vlan(3, "a.10", "a", 10),
        vlan(4, "b.10", "b", 10),
        vlan(5, "b.20", "b", 20),
        vlan(6, "a.q", "a", 10, "802.1ad"),
    )
    assert found == [["h:a", "h:b"], ["h:a.10", "h:b.10"]]


def test_vlans_behind_a_bridge_and_on_it() -> None:
    bridge = (link(3, "br0", "bridge"), {**PAIR[1], "master": "br0"})
    found = wires(PAIR[0], *bridge, vlan(4, "a.7", "a", 7), vlan(5, "br0.7", "br0", 7))
    assert found == [["h:a", "h:br0"], ["h:a.7", "h:br0.7"]]


def test_a_vlan_in_a_vlan() -> None:
    rows = (
        *PAIR,
        vlan(3, "a.10", "a", 10),
        vlan(4, "b.10", "b", 10),
        vlan(5, "a.10.5", "a.10", 5),
        vlan(6, "b.10.5", "b.10", 5),
    )
    assert wires(*rows) == [["h:a", "h:b"], ["h:a.10", "h:b.10"], ["h:a.10.5", "h:b.10.5"]]
    assert wires(*reversed(rows)) == wires(*rows)
