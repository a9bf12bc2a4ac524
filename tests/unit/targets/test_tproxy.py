"""TPROXY finds sockets as tproxy_tg4() does."""

from __future__ import annotations

from typing import Any

import pytest
from nattrace.sim.model.addr import AF_INET, AF_INET6
from nattrace.sim.model.packet import IPPROTO_TCP, IPPROTO_UDP
from nattrace.sim.model.route import Address, Socket
from nattrace.sim.model.rule import ACCEPT, DROP
from unit.targets.vocabulary import context, every_verdict, ip, packet, read

RULE = "-p tcp -j TPROXY --on-port 3129 --tproxy-mark 0x1/0x1"
ETH0 = (Address(AF_INET, "eth0", ip("10.0.0.1"), 24),)


def listener(local: str | None = None, port: int = 3129, **fields: Any) -> Socket:
    fields = {"transparent": True, "state": "LISTEN", **fields}
    return Socket(AF_INET, IPPROTO_TCP, None if local is None else ip(local), port, **fields)


def apply(*sockets: Socket, rule: str = RULE, **fields: Any) -> tuple[str, str | None, Any, int]:
    skb = packet(mark=2, **fields)
    verdict = read(rule, "mangle", "PREROUTING").apply(skb, context(sockets=sockets, addresses=ETH0))
    return verdict.code, verdict.reason, skb.tproxy, skb.mark


def test_a_transparent_listener_takes_the_packet_and_its_mark_is_set() -> None:
    socket = listener()
    assert apply(socket) == (ACCEPT, None, socket, 3)


@pytest.mark.parametrize(
    "socket",
    [listener(transparent=False), listener(port=3130), listener("10.9.9.9"), listener(dev="eth1")],
    ids=["not transparent", "other port", "other address", "other device"],
)
def test_without_a_fitting_socket_the_packet_is_dropped(socket: Socket) -> None:
    assert apply(socket) == (DROP, "tproxy_no_socket", None, 2)


def test_the_listener_on_the_device_address_beats_the_wildcard() -> None:
    exact = listener("10.0.0.1")
    assert apply(listener(), exact)[2] is exact


def test_the_connection_of_the_packet_beats_any_listener() -> None:
    connection = Socket(AF_INET, IPPROTO_TCP, ip("192.0.2.9"), 443, ip("10.0.0.2"), 40000, "ESTAB", transparent=True)
    assert apply(listener(), connection, flags="A")[2] is connection


def test_a_connection_that_is_not_transparent_drops_even_beside_a_listener() -> None:
    connection = Socket(AF_INET, IPPROTO_TCP, ip("192.0.2.9"), 443, ip("10.0.0.2"), 40000, "ESTAB")
    assert apply(listener(), connection, flags="A")[0] == DROP


def test_a_syn_to_a_time_wait_socket_goes_to_the_listener() -> None:
    old = Socket(AF_INET, IPPROTO_TCP, ip("192.0.2.9"), 443, ip("10.0.0.2"), 40000, "TIME-WAIT", transparent=True)
    new = listener()
    assert apply(new, old)[2] is new
    assert apply(new, old, flags="A")[2] is old


def test_port_zero_means_the_port_of_the_packet() -> None:
    socket = listener(port=443)
    assert apply(socket, rule="-p tcp -j TPROXY --on-port 0")[2] is socket


def test_a_dual_stack_listener_serves_ipv4_unless_it_is_v6only() -> None:
    dual = Socket(AF_INET6, IPPROTO_TCP, None, 3129, transparent=True)
    assert apply(dual)[0] == ACCEPT
    only6 = Socket(AF_INET6, IPPROTO_TCP, None, 3129, transparent=True, v6only=True)
    assert apply(only6)[0] == DROP


def test_udp_uses_unconnected_sockets_as_listeners() -> None:
    socket = Socket(AF_INET, IPPROTO_UDP, None, 3129, state="UNCONN", transparent=True)
    rule = "-p udp -j TPROXY --on-port 3129"
    assert apply(socket, rule=rule, proto="udp")[0] == ACCEPT


def test_without_a_list_of_sockets_the_answer_is_undecided() -> None:
    target = read(RULE, "mangle", "PREROUTING")
    assert every_verdict(target, packet) == [(ACCEPT, None, None), (DROP, "tproxy_no_socket", None)]
