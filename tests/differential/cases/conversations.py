"""The TCP tracker: nf_conntrack_proto_tcp.c. Everything passes; counters of every state tell them apart."""

from __future__ import annotations

from . import Case, Op, Talk, gateway, reply, states, tcp, wait

WATCH = (*states("FORWARD"), *states("INPUT"), *states("OUTPUT"))
FIRST = ("S", "SA", "A", "PA", "FA", "F", "R", "RA", "SF", "SP", "-", "SEC", "AU", "FPU")


def talk(name: str, *ops: Op, **sysctl: object) -> Case:
    return Case(f"tcp {name}", gateway(*WATCH, sysctl=sysctl), list(ops))


def first(number: int, flags: str) -> Op:
    return tcp("g:eth0", f"192.168.1.10:{4000 + number}", "10.0.0.2:80", flags, 1000, 1)


def conversations() -> list[Case]:
    """One conversation a port, so that many share a laboratory."""
    t = [Talk(4000 + n) for n in range(40)]
    a, b, c, d, e, f, g, h, i, j, k, el, m, n, o, p, q, r, s, u, v, w = t[:22]
    return [
        talk("handshake, data, window, close", *a.handshake(), a.c("PA", 1001, 5001, 5), a.s("A", 5001, 1006), a.c("PA", 900000, 5001, 5),
             a.c("R", 900000), a.s("FA", 5001, 1006), a.c("FA", 1006, 5002), a.s("A", 5002, 1007), a.c("S", 700000)),
        talk("server resets an answered connection", *a.handshake(), a.s("RA", 5001, 1001), a.c("S", 2000), a.s("SA", 9000, 2001),
             a.c("A", 2001, 9001)),
        talk("reopened after the client's reset, or a refused SYN", *b.handshake(), b.c("R", 1001), b.c("S", 2000),
             c.c("S", 1000), c.s("RA", 0, 1001), c.c("S", 2000)),
        talk("picked up in the middle: nothing is out of window", d.c("A", 1000, 1), d.c("PA", 90000000, 1, 5), d.s("A", 5, 777777),
             d.s("PA", 88888888, 1, 5), d.c("R", 5), d.c("FA", 123, 9), e.c("A", 1000, 1), e.s("R", 1)),
        talk("old and far segments", *f.handshake(), f.c("PA", 1001, 5001, 5), f.s("A", 5001, 1006), f.c("PA", 4000000000, 5001, 3),
             f.c("PA", 1006, 4000000000, 6), f.c("PA", 1006, 9999, 7), f.c("PA", 66001, 5001, 12), f.c("PA", 70000, 5001, 4), f.c("PA", 900000, 5001, 3)),
        talk("resets inside, outside and below the window", *g.handshake(), g.c("A", 1001, 5001), g.s("A", 5001, 1001), g.s("R", 4000), g.s("R", 5500),
             g.s("R", 900000), g.c("R", 900), g.c("R", 1500), g.c("R", 1001)),
        talk("SYNs in an established connection", *h.handshake(), h.c("S", 7000), h.s("A", 5001, 1001), h.s("S", 8000), h.s("SA", 5000, 1001),
             h.c("SA", 1, 1), h.c("S", 7000), h.s("RA", 0, 7001)),
        talk("odd answers to a SYN", i.c("S", 1000), i.c("A", 1001, 5), i.c("FA", 1001, 5), i.s("FA", 5, 5), i.s("A", 5, 5), i.s("SA", 5, 5),
             i.s("SA", 5, 1001), i.s("R", 5), j.c("S", 1000), j.s("A", 5, 5), j.c("R", 5), j.c("S", 1)),
        talk("resets of a SYN", k.c("S", 1000), k.c("R", 1001), el.c("S", 1000), el.c("R", 500000), m.c("S", 1000), m.s("RA", 0, 77),
             n.c("S", 1000), n.s("RA", 7777, 1001), o.c("S", 1000), o.s("R", 7777)),
        talk("both sides close, then SYNs from either", *p.handshake(), p.c("FA", 1001, 5001), p.c("S", 5000), p.s("A", 5001, 1002), p.c("S", 6000),
             p.s("FA", 5001, 1002), p.c("S", 7000), p.c("A", 1002, 5002), p.c("A", 1002, 5002), p.s("S", 1), p.c("S", 9000)),
        talk("reset in the handshake, then answered anew", q.c("S", 1000), q.s("SA", 5000, 1001), q.s("R", 5001), q.c("S", 3000), q.s("SA", 1, 3001)),
        talk("a SYN sent again renews nothing", r.c("S", 1000), wait(3.2), r.c("S", 1000)),
        talk("data of the server before the handshake's end", s.c("S", 1000), s.s("SA", 5000, 1001), s.s("PA", 5001, 1001, 6), s.c("PA", 1001, 5001, 1)),
        talk("answers that acknowledge too much or far too little", u.c("S", 1000), u.s("RA", 0, 50000), u.s("RA", 9, 50000), u.s("SA", 5, 50000),
             u.s("SA", 5, 1002), u.s("RA", 0, 0), v.c("S", 100000), v.s("SA", 5, 1), v.s("RA", 0, 1)),
        talk("simultaneous open", w.c("S", 1000), w.s("S", 5000), w.s("SA", 5000, 1001), w.c("SA", 1000, 5001), w.c("A", 1001, 5001)),
        talk("retransmissions shorten the timeout", *a.handshake(), *[a.c("PA", 1001, 5001, 9)] * 4, a.s("A", 5001, 1010)),
        talk("a closing window of zero", *a.handshake(), a.s("A", 5001, 1001, window=0), a.c("PA", 1001, 5001, 9), a.c("PA", 60000, 5001, 9)),
        talk("half closed, data goes on", *a.handshake(), a.s("FA", 5001, 1001), a.c("A", 1001, 5002), a.c("PA", 1001, 5002, 9), a.s("A", 5002, 1010),
             a.c("FA", 1010, 5002), a.s("A", 5002, 1011)),
        talk("be liberal", *a.handshake(), a.c("PA", 900000, 5001, 5), a.c("R", 800000), a.s("R", 70),
             **{"net.netfilter.nf_conntrack_tcp_be_liberal": 1}),
        talk("invalid resets ignored", *a.handshake(), a.s("R", 4000), a.s("R", 900000), a.c("R", 900),
             **{"net.netfilter.nf_conntrack_tcp_ignore_invalid_rst": 1}),
    ]  # fmt: skip


CASES = [
    *(
        talk(f"first segments, loose={loose}", *(first(n, flags) for n, flags in enumerate(FIRST)),
             **{"net.netfilter.nf_conntrack_tcp_loose": loose})
        for loose in (1, 0)
    ),
    *conversations(),
    Case(
        "tcp stray answers of a masqueraded flow are not translated",
        gateway(*WATCH, "-t nat -A POSTROUTING -o eth1 -j MASQUERADE"),
        [Talk().c("S", 1000), reply(0), tcp("g:eth1", "10.0.0.2:80", "10.0.0.1:4000", "SA", 5000, 999999),
         tcp("g:eth1", "10.0.0.2:80", "10.0.0.1:4000", "A", 900000, 1001), Talk(4100).c("SA", 5, 5)],
        {0: "left g:eth1 tcp 10.0.0.1→10.0.0.2 4000→80 S", 3: "R", 4: "192.168.1.10→10.0.0.2"},
    ),
    Case(
        "tcp timeouts of the sysctls",
        gateway(*WATCH, sysctl={f"net.netfilter.nf_conntrack_tcp_timeout_{k}": v for k, v in
                               (("syn_sent", 33), ("syn_recv", 44), ("established", 555), ("fin_wait", 66), ("close_wait", 77),
                                ("last_ack", 88), ("time_wait", 99), ("close", 22), ("unacknowledged", 111), ("max_retrans", 122))}),
        [Talk(1).c("S", 1000), Talk(2).c("S", 1000), Talk(2).s("SA", 5000, 1001), *Talk(3).handshake(), Talk(3).s("A", 5001, 1001),
         *Talk(4).handshake(), Talk(4).c("FA", 1001, 5001), *Talk(5).handshake(), Talk(5).c("FA", 1001, 5001), Talk(5).s("A", 5001, 1002),
         *Talk(6).handshake(), Talk(6).c("FA", 1001, 5001), Talk(6).s("FA", 5001, 1002), Talk(6).c("A", 1002, 5002),
         *Talk(7).handshake(), Talk(7).c("R", 1001), *Talk(8).handshake()],
    ),
]  # fmt: skip
