"""Which socket takes a delivered packet (compute_score of udp.c and inet_hashtables.c)."""

from __future__ import annotations

from typing import Any

from nattrace.sim.engine import sockets
from nattrace.sim.engine.run import Ctx
from nattrace.sim.model.addr import AF_INET, AF_INET6
from nattrace.sim.model.route import Socket

from .net_world import context, host, ip4, packet

TCP, UDP = 6, 17


def on(*listening: Socket) -> Ctx:
    return context(host("b", {"eth0": ["10.0.0.2/24"]}, sockets=listening)).at(1, "eth0", None)


def socket(local: str | None = None, port: int = 53, proto: int = UDP, **more: Any) -> Socket:
    remote = more.pop("remote", None)
    state = more.pop("state", "UNCONN" if proto == UDP else "LISTEN")
    return Socket(more.pop("family", AF_INET), proto, ip4(local) if local else None, port, ip4(remote) if remote else None,
                  state=state, **more)  # fmt: skip


def taken(ctx: Ctx, flags: int = 2, proto: int = UDP) -> sockets.Delivery:
    skb = packet("10.0.0.1", "10.0.0.2", proto)
    skb.tcp_flags = flags
    return sockets.lookup(ctx, skb)


def test_a_bound_address_beats_the_wildcard_even_if_that_is_bound_to_the_device() -> None:
    exact, wild = socket("10.0.0.2"), socket(dev="eth0")
    assert taken(on(wild, exact)).socket is exact


def test_a_connected_socket_beats_an_unconnected_one() -> None:
    connected, plain = socket(remote="10.0.0.1", rport=1000), socket()
    assert taken(on(plain, connected)).socket is connected
    assert taken(on(plain, socket(remote="10.0.0.9", rport=1000))).socket is plain


def test_another_device_or_address_is_nobody() -> None:
    assert taken(on(socket(dev="eth1"))).kind == "no_listener"
    found = taken(on(socket("127.0.0.1")))
    assert found.kind == "no_listener" and "another address" in found.note


def test_a_wildcard_ipv6_socket_takes_ipv4_unless_v6only() -> None:
    assert taken(on(socket(family=AF_INET6))).kind == "socket"
    assert taken(on(socket(family=AF_INET6, v6only=True))).kind == "no_listener"


def test_without_a_dump_of_sockets_nobody_knows() -> None:
    ctx = context(host("b", {"eth0": ["10.0.0.2/24"]})).at(1, "eth0", None)
    assert taken(ctx).kind == "unknown"


def test_a_listener_takes_a_syn_and_then_its_connection() -> None:
    ctx = on(socket(proto=TCP))
    assert taken(ctx, flags=16, proto=TCP).kind == "no_listener"
    assert taken(ctx, flags=2, proto=TCP).kind == "socket"
    assert taken(ctx, flags=16, proto=TCP).kind == "socket"


def test_an_established_connection_goes_before_the_listener() -> None:
    connection = socket("10.0.0.2", proto=TCP, remote="10.0.0.1", rport=1000, state="ESTAB")
    assert taken(on(socket(proto=TCP), connection), flags=16, proto=TCP).socket is connection


def test_the_answer_goes_to_the_socket_that_asked() -> None:
    ctx = on()
    asked = packet("10.0.0.2", "10.0.0.1", UDP, 53, 1000)
    sockets.remember(ctx, asked)
    assert taken(ctx).kind == "socket"


def test_the_kernel_answers_echo_requests() -> None:
    ctx = on()
    skb = packet("10.0.0.1", "10.0.0.2", 1)
    skb.icmp_type = 8
    assert sockets.lookup(ctx, skb).kind == "kernel"
    assert sockets.echo_is_answered(ctx, skb)


def test_a_protocol_without_a_handler_is_unreachable_unless_a_raw_socket_wants_it() -> None:
    assert taken(on(), proto=89).kind == "no_protocol"
    raw = socket(port=89, proto=89, extra=(("netid", "raw"),))
    assert taken(on(raw), proto=89).socket is raw


def test_a_module_handles_its_protocol_where_the_capture_found_it_loaded() -> None:
    def with_protocols(*loaded: int) -> Ctx:
        return context(host("b", {"eth0": ["10.0.0.2/24"]}, sockets=(), meta={"protocols": [1, 6, 17, *loaded]})).at(
            1, "eth0", None
        )

    assert taken(on(), proto=132).kind == "unknown"
    assert taken(with_protocols(), proto=132).kind == "no_protocol"
    assert taken(with_protocols(132), proto=132).kind == "kernel"
