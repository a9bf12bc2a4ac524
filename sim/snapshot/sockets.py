"""``sockets.txt``: ``ss -H -a -n -e -p -t -u -w --inet-sockopt``; also ``ss`` with its heading, as in ``ss -tn``.

``Socket.extra`` holds ("netid", "raw") for raw sockets, whose port column is their protocol number.
"""

from __future__ import annotations

import re
from typing import Any

from ..model.addr import AF_INET, AF_INET6, parse_addr
from ..model.route import Socket
from ..model.where import Where
from .problems import Problems, excerpt
from .words import proto_number, service_port, unsigned

NETID = {"tcp": 6, "udp": 17, "udpl": 136, "dccp": 33, "sctp": 132, "mptcp": 6}
OTHER = frozenset((
    "u_str", "u_dgr", "u_seq", "nl", "p_raw", "p_dgr", "v_str", "v_dgr", "ti_rd", "ti_sq", "ti_st", "ti_dg", "xdp", "icmp6",
))  # fmt: skip
STATES = frozenset((
    "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN", "CLOSE-WAIT", "LAST-ACK",
    "LISTEN", "CLOSING", "UNKNOWN", "CLOSED", "NEW-SYN-RECV", "BOUND-INACTIVE",
))  # fmt: skip
NOISE = ("Netid", "State", "Failed to", "Recv-Q", "#", "Cannot open")
_PROCESS = re.compile(r'users:\(\("(?P<name>[^"]*)"')
_UID, _MARK = re.compile(r"\buid:(\d{1,10})\b"), re.compile(r"\bfwmark:(0x[0-9a-fA-F]{1,8})\b")
REMEDY = "it is the output of: ss -H -a -n -e -p -t -u -w --inet-sockopt"


def read_sockets(text: str, file: str, problems: Problems) -> tuple[Socket, ...]:
    """The sockets; lines that begin with white space belong to the socket above."""
    found: list[Socket] = []
    pending: tuple[int, str] | None = None

    def flush() -> None:
        if pending is None:
            return
        number, line = pending
        try:
            socket = _socket(line, Where(file, number))
        except (ValueError, OSError) as error:
            problems.error(f"{error}: {excerpt(line)}", file, number, REMEDY)
            return
        if socket is not None:
            found.append(socket)

    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith(NOISE):
            continue
        if line[0] in " \t" and pending is not None:
            if len(pending[1]) < 1 << 16:
                pending = pending[0], f"{pending[1]} {line.strip()}"
            continue
        flush()
        pending = number, line
    flush()
    return tuple(found)


def _socket(line: str, where: Where) -> Socket | None:
    words = line.split()
    netid = "tcp" if words[0] in STATES else words.pop(0)
    if netid == "???":  # ss has no name for IPPROTO_RAW, by which a kernel with raw_diag tells of raw sockets
        netid = "raw"
    if netid in OTHER:
        return None
    if netid not in NETID and netid != "raw":
        raise ValueError(f"unknown kind of socket {excerpt(netid)}")
    if len(words) < 5 or words[0] not in STATES:
        raise ValueError("expected STATE RECV-Q SEND-Q LOCAL:PORT PEER:PORT")
    family, local, lport, dev = _endpoint(words[3], netid)
    peer_family, remote, rport, _ = _endpoint(words[4], netid)
    rest = " ".join(words[5:])
    if family is None:
        family = AF_INET6 if "v6only" in rest or netid == "raw" or peer_family in (None, AF_INET6) else AF_INET
    options = _options(rest)
    return Socket(
        family=family,
        proto=lport if netid == "raw" else NETID[netid],
        local=local,
        lport=lport,
        remote=remote,
        rport=0 if netid == "raw" else rport,
        state=words[0],
        v6only=family == AF_INET6 and ("v6only:1" in rest or words[3].startswith("[::]")),
        dev=dev,
        where=where,
        **options,
        extra=(("netid", "raw"),) if netid == "raw" else (),
    )


def _options(rest: str) -> dict[str, Any]:
    process, uid, mark = _PROCESS.search(rest), _UID.search(rest), _MARK.search(rest)
    _, _, sockopt = rest.partition("inet-sockopt: (")
    flags = sockopt.partition(")")[0].split()
    return {
        "process": process["name"] if process else "",
        "uid": unsigned(uid[1], "uid", 0xFFFFFFFF) if uid else 0,
        "mark": unsigned(mark[1], "fwmark") if mark else 0,
        "transparent": "transparent" in flags,
        "freebind": "freebind" in flags,
    }


def _endpoint(text: str, netid: str) -> tuple[int | None, int | None, int, str | None]:
    """``10.0.0.1%eth0:80``, ``[::1]:80``, ``[fe80::1]%eth0:80``, ``*:80``, ``0.0.0.0:*``."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"expected ADDRESS:PORT, got {excerpt(text)}")
    host, _, dev = host.partition("%")
    if host.startswith("["):
        inside, _, after = host[1:].partition("]")
        host, dev = inside, dev or after.lstrip("%")
    if port == "*":
        number = 0
    elif netid == "raw":
        number = proto_number(port.removeprefix("ipproto-"))
    else:
        number = service_port(port)
    if host in ("*", ""):
        return None, None, number, dev or None
    family, value = parse_addr(host)
    if family == AF_INET6 and value >> 32 == 0xFFFF:
        family, value = AF_INET, value & 0xFFFFFFFF  # an IPv4 connection on an IPv6 socket
    return family, value or None, number, dev or None
