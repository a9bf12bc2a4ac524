"""Frames that a bridge switches: where they meet iptables, and where the snapshot does not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nattrace.sim.engine.simulate import Simulator
from nattrace.sim.explain.whatif_link import HairpinEdit
from nattrace.sim.model.world import Setting, World
from nattrace.sim.record import replace
from nattrace.sim.snapshot.load import load_world

CAUSES = Path(__file__).resolve().parents[3] / "docs" / "causes"
SWITCH = "net.bridge.bridge-nf-call-iptables"


def world(cause: str) -> World:
    return load_world(CAUSES / cause / "snapshot")


def ask(net: World, host: str, dev: str | None, src: str, dst: str, **more: Any) -> dict[str, Any]:
    record = {"id": 1, "host": host, "in": dev, "proto": "tcp", "flags": "S", "src": src, "dst": dst, "sport": 40000}
    return Simulator(net).feed({**record, "dport": 5432, **more})


def with_settings(net: World, host: str, settings: dict[str, Setting]) -> World:
    return net.with_host(net.hosts[host].with_(sysctl=settings))


class TestSwitchedFrames:
    net = world("bridged-frames-meet-forward")

    def test_meet_forward(self) -> None:
        result = ask(self.net, "web", None, "172.18.0.2", "172.18.0.3")
        assert (result["outcome"], result["at"]["hook"]) == ("dropped", "FORWARD")

    def test_do_not_where_the_setting_is_off(self) -> None:
        settings = {**self.net.hosts["host"].sysctl, SWITCH: Setting("0")}
        assert (
            ask(with_settings(self.net, "host", settings), "web", None, "172.18.0.2", "172.18.0.3")["outcome"]
            == "delivered"
        )

    def test_do_not_where_the_module_is_not_loaded(self) -> None:
        settings = {k: v for k, v in self.net.hosts["host"].sysctl.items() if not k.startswith("net.bridge.")}
        assert (
            ask(with_settings(self.net, "host", settings), "web", None, "172.18.0.2", "172.18.0.3")["outcome"]
            == "delivered"
        )

    def test_are_undecided_without_any_sysctl(self) -> None:
        result = ask(with_settings(self.net, "host", {}), "web", None, "172.18.0.2", "172.18.0.3")
        assert result["certainty"] == "unknown" and "sysctl.txt" in result["reason"]["text"]

    def test_do_where_the_bridge_itself_asks_for_it(self) -> None:
        off = with_settings(self.net, "host", {**self.net.hosts["host"].sysctl, SWITCH: Setting("0")})
        links = off.hosts["host"].links
        asking = {**links, "br0": replace(links["br0"], nf_call_iptables=True)}
        net = off.with_host(off.hosts["host"].with_(links=asking))
        assert ask(net, "web", None, "172.18.0.2", "172.18.0.3")["outcome"] == "dropped"

    @pytest.mark.parametrize("dev", ("port1", "br0"))
    def test_put_into_the_bridge_or_a_port(self, dev: str) -> None:
        """What is for a neighbour on the bridge is switched, also where nobody names the frame's address."""
        result = ask(self.net, "host", dev, "172.18.0.2", "172.18.0.3")
        assert result["outcome"] == "dropped" and any(s["stage"] == "bridge" for s in result["hops"][0]["steps"])
        assert result["packet"]["ttl"] == 64

    def test_for_the_world_are_routed(self) -> None:
        result = ask(self.net, "host", "port1", "172.18.0.2", "198.51.100.1")
        assert (result["outcome"], result["packet"]["ttl"]) == ("left", 63)

    def test_without_the_other_hosts(self) -> None:
        """A snapshot of the host alone: who is behind the ports nobody knows."""
        alone = World({"host": self.net.hosts["host"]})
        result = ask(alone, "host", "port1", "172.18.0.2", "172.18.0.3")
        assert (result["outcome"], result["at"]["hook"]) == ("dropped", "FORWARD")


class TestHairpin:
    net = world("bridge-hairpin")

    def test_a_bridge_sends_nothing_back(self) -> None:
        result = ask(self.net, "pod", None, "10.244.1.2", "10.96.0.20", dport=80)
        assert (result["outcome"], result["reason"]["code"]) == ("dropped", "bridge_hairpin_off")
        assert result["reason"]["where"] == "node/link.json"

    def test_without_the_other_hosts_what_is_turned_to_its_sender_goes_nowhere(self) -> None:
        """Which port it is nobody needs to know: none is in hairpin mode; where some are, nobody can tell."""
        alone = World({"node": self.net.hosts["node"]})
        question = ("node", "cni0", "10.244.1.2", "10.96.0.20")
        result = ask(alone, *question, dport=80)
        assert (result["outcome"], result["reason"]["code"]) == ("dropped", "bridge_hairpin_off")
        assert any("taken to be addressed to node" in text for text in result["assumptions"])
        assert ask(HairpinEdit("node", "port1").apply(alone), *question, dport=80)["certainty"] == "unknown"
        assert ask(alone, "node", "cni0", "10.244.1.3", "10.96.0.20", dport=80)["outcome"] == "left"

    def test_but_out_of_a_port_in_hairpin_mode(self) -> None:
        result = ask(HairpinEdit("node", "port1").apply(self.net), "pod", None, "10.244.1.2", "10.96.0.20", dport=80)
        assert (result["outcome"], result["packet"]["src"]) == ("delivered", "10.244.1.1")

    def test_what_comes_from_another_port_is_switched(self) -> None:
        result = ask(self.net, "client", None, "10.244.1.3", "10.96.0.20", dport=80)
        assert (result["outcome"], result["packet"]["src"], result["packet"]["ttl"]) == ("delivered", "10.244.1.3", 64)
