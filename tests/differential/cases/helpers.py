"""Helpers and expectations: ftp and tftp, with and without NAT; sequence numbers after a payload has changed."""

from __future__ import annotations

from . import Case, Op, again, gateway, reply, snapshot, states, tcp, udp

C, S = "192.168.1.10", "10.0.0.2"
FTP = "-t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp"
TFTP = "-t raw -A PREROUTING -p udp --dport 69 -j CT --helper tftp"
MASQ = "-t nat -A POSTROUTING -o eth1 -j MASQUERADE"
DNAT = "-t nat -A PREROUTING -d 10.0.0.1 -p tcp --dport 21 -j DNAT --to-destination 192.168.1.10"
WATCH = (*states("FORWARD"), *states("INPUT"), "-t mangle -A FORWARD -m helper --helper ftp", "-t mangle -A FORWARD -m helper --helper tftp",
         "-t mangle -A POSTROUTING -p tcp --dport 21 -j CONNMARK --set-mark 6", "-t mangle -A FORWARD -m connmark --mark 6")  # fmt: skip


def session(
    client: str, server: str, seen_client: str, seen_server: str, *, into: str = "g:eth0", out: str = "g:eth1"
) -> tuple[Op, ...]:
    """Handshake, greeting and login on port 21 (a helper learns where lines begin from one that ends). ``seen_*``: what the server and the client know each other as."""
    return (
        tcp(into, f"{client}:3000", f"{seen_server}:21", "S", 1000),
        tcp(out, f"{server}:21", f"{seen_client}:3000", "SA", 5000, 1001),
        tcp(into, f"{client}:3000", f"{seen_server}:21", "A", 1001, 5001),
        tcp(out, f"{server}:21", f"{seen_client}:3000", "PA", 5001, 1001, b"220 ready\r\n"),
        tcp(into, f"{client}:3000", f"{seen_server}:21", "PA", 1001, 5012, b"USER x\r\n"),
        tcp(out, f"{server}:21", f"{seen_client}:3000", "PA", 5012, 1009, b"230 ok\r\n"),
    )


def port(address: str, number: int) -> bytes:
    return f"{address.replace('.', ',')},{number >> 8},{number & 255}".encode()


def ftp(name: str, rules: tuple[str, ...], *packets: Op, expect: dict[int, str] | None = None, **more: object) -> Case:
    return Case(f"helpers ftp {name}", gateway(*rules, *WATCH, **more), list(packets), expect or {})


def active(address: str, seen: str, back: str) -> tuple[Op, ...]:
    """PORT by the client, the data connection that the server then opens, and what goes on afterwards."""
    say = b"PORT " + port(address, 40000) + b"\r\n"
    grown = len(port(back, 40000)) - len(port(address, 40000))
    end = 1009 + len(say)
    return (
        tcp("g:eth0", f"{C}:3000", f"{S}:21", "PA", 1009, 5020, say),
        tcp("g:eth1", f"{S}:21", f"{seen}:3000", "PA", 5020, end + grown, b"200 ok\r\n"),
        tcp("g:eth0", f"{C}:3000", f"{S}:21", "PA", end, 5028, b"RETR x\r\n"),
        tcp("g:eth1", f"{S}:21", f"{seen}:3000", "A", 5028, end + grown + 8),
        tcp("g:eth1", f"{S}:20", f"{back}:40000", "S", 77000),
        reply(10),
        again(10, flags="A"),
        tcp("g:eth1", f"{S}:20", f"{back}:40001", "S", 77000),
        tcp("g:eth1", f"{S}:22", f"{back}:40000", "S", 77000),
    )


def passive(kind: str, number: int = 40000) -> tuple[Op, ...]:
    said = (
        b"227 Entering Passive Mode (" + port(S, number) + b").\r\n"
        if kind == "227"
        else b"229 Entering (|||%d|)\r\n" % number
    )
    return (
        tcp("g:eth0", f"{C}:3000", f"{S}:21", "PA", 1009, 5020, b"PASV\r\n"),
        tcp("g:eth1", f"{S}:21", "SEEN:3000", "PA", 5020, 1015, said),
        tcp("g:eth0", f"{C}:3001", f"{S}:{number}", "S", 9000),
        reply(8),
        tcp("g:eth0", f"{C}:3002", f"{S}:{number}", "S", 9000),
    )


def seen(packets: tuple[Op, ...], address: str) -> tuple[Op, ...]:
    """The client's address as the server sees it, filled in."""
    return tuple(
        {**p, "record": {**p["record"], "dst": p["record"]["dst"].replace("SEEN", address)}} if "record" in p else p
        for p in packets
    )


plain, natted = session(C, S, C, S), session(C, S, "10.0.0.1", S)
LONG = "10.0.0.1"
served = session("10.0.0.2", C, "10.0.0.2", "10.0.0.1", into="g:eth1", out="g:eth0")

IRC = "-t raw -A PREROUTING -p tcp --dport 6667 -j CT --helper irc"
SANE = "-t raw -A PREROUTING -p tcp --dport 6566 -j CT --helper sane"
AMANDA = "-t raw -A PREROUTING -p udp --dport 10080 -j CT --helper amanda"
NETBIOS = (
    "-t raw -A OUTPUT -p udp --dport 137 -j CT --helper netbios-ns",
    "-t raw -A OUTPUT -p udp --dport 161 -j CT --helper snmp",
)
NAMES = tuple(f"-t mangle -A FORWARD -m helper --helper {n}" for n in ("irc", "sane", "amanda"))


def other(
    name: str, rules: tuple[str, ...], *packets: Op, expect: dict[int, str] | None = None, **more: object
) -> Case:
    return Case(f"helpers {name}", gateway(*rules, *WATCH, *NAMES, **more), list(packets), expect or {})


def chat(seen: str, *lines: bytes) -> tuple[Op, ...]:
    """A connection to an IRC server in which the client says something, one segment a line."""
    seq, out = 1001, []
    for line in lines:
        out.append(tcp("g:eth0", f"{C}:3000", f"{S}:6667", "PA", seq, 5001, line))
        seq += len(line)
    return (tcp("g:eth0", f"{C}:3000", f"{S}:6667", "S", 1000), tcp("g:eth1", f"{S}:6667", f"{seen}:3000", "SA", 5000, 1001),
            tcp("g:eth0", f"{C}:3000", f"{S}:6667", "A", 1001, 5001), *out)  # fmt: skip


def offer(address: int, number: int, kind: str = "SEND") -> bytes:
    return f"PRIVMSG joe :\x01DCC {kind} file.txt {address} {number}\x01\r\n".encode()


OWN, GATE = 0xC0A8010A, 0x0A000001  # 192.168.1.10, 10.0.0.1


def dcc(back: str, number: int = 5000) -> tuple[Op, ...]:
    """A third host takes the offer, then once more."""
    return (tcp("g:eth1", "10.0.0.77:900", f"{back}:{number}", "S", 7000), reply(-1), tcp("g:eth1", "10.0.0.78:900", f"{back}:{number}", "S", 7000))  # fmt: skip


def numbered(*packets: Op) -> list[Op]:
    """``reply(-1)`` becomes an answer to the packet before it."""
    return [{**p, "of": n - 1} if p.get("of") == -1 else p for n, p in enumerate(packets)]


def scan(server_says: bytes, asked: int = 7) -> tuple[Op, ...]:
    ask = asked.to_bytes(4, "big") + bytes(4)
    return (tcp("g:eth0", f"{C}:3000", f"{S}:6566", "S", 1000), tcp("g:eth1", f"{S}:6566", "SEEN:3000", "SA", 5000, 1001), tcp("g:eth0", f"{C}:3000", f"{S}:6566", "A", 1001, 5001),
            tcp("g:eth0", f"{C}:3000", f"{S}:6566", "PA", 1001, 5001, ask), tcp("g:eth1", f"{S}:6566", "SEEN:3000", "PA", 5001, 1009, server_says),
            tcp("g:eth0", f"{C}:3001", f"{S}:40000", "S", 9000), reply(5), tcp("g:eth0", f"{C}:3002", f"{S}:40000", "S", 9000))  # fmt: skip


STARTED = bytes(6) + (40000).to_bytes(2, "big")
BACKUP = b"Amanda 2.4 REP HANDLE 000 SEQ 1\nCONNECT DATA 40000 MESG 40001 INDEX 00042\n\n"


def backup(seen_as: str, says: bytes) -> tuple[Op, ...]:
    ask = udp("g:eth0", f"{C}:900", f"{S}:10080", payload=b"Amanda 2.4 REQ\n".hex())
    flows = [
        tcp("g:eth0", f"{C}:{3000 + n}", f"{S}:{port}", "S", 9000) for n, port in enumerate((40000, 40001, 42, 40002))
    ]
    return (ask, udp("g:eth1", f"{S}:10080", f"{seen_as}:900", payload=says.hex()), *flows, reply(2))


CASES = [
    *(Case(f"helpers {name}", gateway(*rules, *WATCH, *NAMES), numbered(*chat(seen_as, *lines), *dcc(seen_as)), {}) for name, rules, seen_as, lines in (
        ("irc", (IRC,), C, (offer(OWN, 5000),)),
        ("irc through masquerade", (IRC, MASQ), LONG, (offer(OWN, 5000), b"PRIVMSG joe :more\r\n")),
        ("irc, the outer address", (IRC, MASQ), LONG, (offer(GATE, 5000, "CHAT"),)),
        ("irc, somebody else's address", (IRC, MASQ), LONG, (offer(0x01020304, 5000),)),
        ("irc, no offer", (IRC, MASQ), LONG, (b"PRIVMSG joe :hello DCC SEND x 3232235786 5000 \r\n", b"\r\n " + offer(OWN, 5000, "TSEND"), offer(OWN, 5000).replace(b"\n", b""), offer(OWN, 0))))),
    *(other(f"sane {name}", rules, *seen(scan(says, asked), address)) for name, rules, says, asked, address in (
        ("", (SANE,), STARTED, 7, C), ("through masquerade", (SANE, MASQ), STARTED, 7, LONG), ("of another request", (SANE,), STARTED, 6, C), ("refused", (SANE,), b"\0\0\0\1" + STARTED[4:], 7, C))),
    other("amanda", (AMANDA,), *backup(C, BACKUP)),
    other("amanda through masquerade", (AMANDA, MASQ), *backup(LONG, BACKUP)),
    other("amanda without a connect line", (AMANDA, MASQ), *backup(LONG, b"DATA 40000 MESG 40001\n")),
    other("netbios-ns and snmp", (*NETBIOS, MASQ), udp("g", None, "192.168.1.255:137"), udp("g:eth0", f"{C}:137", "192.168.1.1:4000"), udp("g:eth0", "192.168.1.11:138", "192.168.1.1:4000"), udp("g:eth1", "10.0.0.7:137", "192.168.1.1:4000"),
          udp("g", "192.168.1.1:4001", "192.168.1.255:161"), udp("g:eth0", f"{C}:161", "192.168.1.1:4001"), reply(1), udp("g", None, "10.0.0.255:137"), udp("g:eth1", "10.0.0.7:137", "10.0.0.1:4000"), lan="192.168.1.1/24 brd +"),
    ftp("needs to be assigned", (MASQ,), *natted, *active(C, "10.0.0.1", "10.0.0.1")),
    ftp("active", (FTP,), *plain, *active(C, C, C)),
    ftp("active through masquerade", (FTP, MASQ), *natted, *active(C, LONG, LONG), expect={10: f"left g:eth0 tcp {S}→{C} 20→40000"}),
    ftp("active through SNAT to a longer address", (FTP, "-t nat -A POSTROUTING -o eth1 -j SNAT --to-source 10.200.200.201"), *session(C, S, "10.200.200.201", S),
        *active(C, "10.200.200.201", "10.200.200.201")),
    *(ftp(f"passive {k}", (FTP,), *plain, *seen(passive(k), C)) for k in ("227", "229")),
    *(ftp(f"passive {k} through masquerade", (FTP, MASQ), *natted, *seen(passive(k), LONG)) for k in ("227", "229")),
    ftp("the expected connection outlives a snapshot", (FTP, MASQ), *natted, *active(C, LONG, LONG)[:2], snapshot(), *active(C, LONG, LONG)[4:5]),
    ftp("a server behind DNAT", (FTP, DNAT), *served, tcp("g:eth1", "10.0.0.2:3000", "10.0.0.1:21", "PA", 1009, 5020, b"PASV\r\n"),
        tcp("g:eth0", f"{C}:21", "10.0.0.2:3000", "PA", 5020, 1015, b"227 Entering Passive Mode (" + port(C, 50000) + b").\r\n"),
        tcp("g:eth1", "10.0.0.2:3001", "10.0.0.1:50000", "S", 9000), reply(8), expect={8: f"→{C} 3001→50000"}),
    ftp("of a third host", (FTP, MASQ), *natted, tcp("g:eth0", f"{C}:3000", f"{S}:21", "PA", 1009, 5020, b"PORT " + port("192.168.1.99", 40000) + b"\r\n"),
        tcp("g:eth1", f"{S}:20", "10.0.0.1:40000", "S", 77000)),
    ftp("half an announcement", (FTP, MASQ), *natted, tcp("g:eth0", f"{C}:3000", f"{S}:21", "PA", 1009, 5020, b"PORT 192,168,1"), tcp("g:eth0", f"{C}:3000", f"{S}:21", "PA", 1009, 5020, b"PO")),
    Case("helpers tftp", gateway(TFTP, *WATCH), [
        udp("g:eth0", f"{C}:3000", f"{S}:69", payload="000166696c65006f6374657400"), udp("g:eth1", f"{S}:5001", f"{C}:3000"), reply(1), udp("g:eth1", f"{S}:5002", f"{C}:3000"),
        udp("g:eth0", f"{C}:3003", f"{S}:69", payload="0003"), udp("g:eth1", f"{S}:5001", f"{C}:3003")]),
    Case("helpers tftp through masquerade", gateway(TFTP, MASQ, *WATCH), [
        udp("g:eth0", f"{C}:3000", f"{S}:69", payload="000166696c65006f6374657400"), udp("g:eth1", f"{S}:5001", "10.0.0.1:3000"), reply(1), again(1), udp("g:eth1", f"{S}:5002", "10.0.0.1:3000")],
        {1: f"left g:eth0 udp {S}→{C} 5001→3000"}),
]  # fmt: skip
