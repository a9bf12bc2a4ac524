"""ACCEPT, DROP, RETURN, REJECT, NFQUEUE, QUEUE, TEE, SYNPROXY, CLUSTERIP: how the traversal ends."""

from __future__ import annotations

from typing import Any

import pytest
from nattrace.sim.engine import icmp, routing
from nattrace.sim.engine.rt import Rt
from nattrace.sim.model.rule import ACCEPT, CONTINUE, DROP, QUEUE, RETURN, STOLEN
from unit.targets.vocabulary import context, every_verdict, packet, read


@pytest.mark.parametrize(("name", "code"), [("ACCEPT", ACCEPT), ("DROP", DROP), ("RETURN", RETURN)])
def test_standard_verdicts(name: str, code: str) -> None:
    target = read(f"-j {name}")
    assert target.terminal
    assert target.apply(packet(), context("INPUT")).code == code


@pytest.mark.parametrize(
    ("option", "sent"),
    [
        ("", (3, 3)),
        ("--reject-with icmp-net-unreachable", (3, 0)),
        ("--reject-with icmp-host-unreachable", (3, 1)),
        ("--reject-with icmp-proto-unreachable", (3, 2)),
        ("--reject-with icmp-net-prohibited", (3, 9)),
        ("--reject-with icmp-host-prohibited", (3, 10)),
        ("--reject-with icmp-admin-prohibited", (3, 13)),
    ],
)
def test_reject_sends_the_error_of_its_name_and_drops(
    option: str, sent: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[tuple[int, int]] = []
    monkeypatch.setattr(icmp, "icmp_send", lambda ctx, skb, kind, code, info=0: errors.append((kind, code)))
    verdict = read(f"-j REJECT {option}").apply(packet(), context("INPUT"))
    assert (verdict.code, verdict.reason, errors) == (DROP, "rejected_by_rule", [sent])


def test_reject_answers_no_later_fragment(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(icmp, "icmp_send", lambda *args: errors.append(args))
    assert read("-j REJECT").apply(packet(frag=1480), context("INPUT")).code == DROP
    assert not errors


def test_reject_with_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[Any] = []
    monkeypatch.setattr(icmp, "tcp_reset", lambda ctx, skb: resets.append(skb))
    skb = packet()
    read("-p tcp -j REJECT --reject-with tcp-reset").apply(skb, context("INPUT"))
    assert resets == [skb]


def test_a_queue_whose_listener_is_not_known_counts_as_queued_and_says_so() -> None:
    ctx = context("INPUT")
    verdict = read("-j NFQUEUE --queue-num 3").apply(packet(), ctx)
    assert (verdict.code, verdict.reason) == (QUEUE, "queued")
    assert any("listens on queue 3" in note for note in ctx.run.notes)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("-j NFQUEUE --queue-num 3", [(QUEUE, "queued", 1.0)]),
        ("-j NFQUEUE --queue-num 4", [(DROP, "queue_without_listener", 1.0)]),
        ("-j NFQUEUE --queue-num 4 --queue-bypass", [(ACCEPT, None, 1.0)]),
        ("-j NFQUEUE --queue-balance 3:4", [(DROP, "queue_without_listener", 0.5), (QUEUE, "queued", 0.5)]),
        ("-j QUEUE", [(DROP, "queue_without_listener", 1.0)]),
    ],
)
def test_queues_with_known_listeners(rule: str, expected: list[Any]) -> None:
    assert every_verdict(read(rule), packet, meta={"queues": [3]}) == expected


def test_tee_copies_once_and_lets_the_original_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    target, ctx, copies = read("-j TEE --gateway 10.0.0.9 --oif nosuch"), context("FORWARD"), []

    def again(ctx: Any, skb: Any, gateway: int, oif: str | None) -> None:
        copies.append((gateway, oif))
        target.apply(skb, ctx)  # the copy meets the same rule: nf_skb_duplicated

    monkeypatch.setattr(icmp, "tee", again)
    assert target.apply(packet(), ctx).code == CONTINUE
    assert target.apply(packet(), ctx).code == CONTINUE
    assert copies == [(0x0A000009, None)] * 2


def test_synproxy_answers_a_syn_in_the_servers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(routing, "reroute", lambda ctx, skb: Rt("unicast", "eth0"))
    monkeypatch.setattr(icmp, "emit", lambda ctx, out, kind: sent.append((out, kind)))
    ctx = context("INPUT")
    verdict = read("-p tcp -j SYNPROXY --mss 1460").apply(packet(tcp_seq=7, mss=9000, length=44), ctx)
    assert (verdict.code, verdict.reason) == (STOLEN, "stolen_synproxy")
    [(out, kind)] = sent
    assert (kind, out.header()["flags"], out.mss, out.tcp_ack, out.window) == ("tcp_synack", "SA", 1460, 8, 0)
    assert (out.src, out.sport, out.length) == (packet().dst, 443, 44)


def test_synproxy_drops_an_ack_without_a_handshake_and_ignores_the_rest() -> None:
    target, ctx = read("-p tcp -j SYNPROXY"), context("INPUT")
    assert target.apply(packet(flags="A"), ctx).reason == "synproxy_bad_cookie"
    assert target.apply(packet(flags="R"), ctx).code == CONTINUE
    assert target.apply(packet(flags="SA"), ctx).code == CONTINUE


def test_clusterip_is_undecided() -> None:
    assert every_verdict(read("-j CLUSTERIP"), packet) == [(CONTINUE, None, None), (DROP, None, None)]
