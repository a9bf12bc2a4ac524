"""Pasted lines as flows: tcpdump, ``conntrack -L``, a netfilter LOG line, ``ss -tn``.

Each reader looks at the whole text and returns a canonical FLOW (text that :mod:`.flow` reads) with what it noted,
or None when the text is not its kind.
"""

from __future__ import annotations

import re

from .errors import FlowError
from .flow_words import fail
from .record import NamedTuple


class Pasted(NamedTuple):
    """The line said again in the canonical form."""

    flow: str
    kind: str
    notes: tuple[str, ...] = ()


def read_pasted(text: str) -> Pasted | None:
    """The flow of a pasted line, or None when it looks like none of the known kinds."""
    line = " ".join(text.split())
    for reader in (_netfilter_log, _conntrack, _tcpdump, _ss):
        found = reader(line)
        if found is not None:
            return found
    return None


def _at(addr: str, port: str | None) -> str:
    if port is None:
        return addr
    return f"[{addr}]:{port}" if ":" in addr else f"{addr}:{port}"


# ------------------------------------------------------------------------------------ netfilter LOG target

_TCP_LOG_FLAGS = (
    ("SYN", "S"),
    ("ACK", "A"),
    ("FIN", "F"),
    ("RST", "R"),
    ("PSH", "P"),
    ("URG", "U"),
    ("ECE", "E"),
    ("CWR", "C"),
)


def _netfilter_log(line: str) -> Pasted | None:
    """net/netfilter/nf_log_syslog.c: ``IN=eth1 OUT= MAC=… SRC=… DST=… LEN=… TTL=… PROTO=TCP SPT=… DPT=… SYN``."""
    if not re.search(r"(?:^|\s|\])IN=\S*\s+OUT=", line) or " SRC=" not in line:
        return None
    outer = line.split("[SRC=", 1)[0]  # the quoted packet of an ICMP error comes in brackets
    pairs = dict(re.findall(r"([A-Z]+)=(\S*)", outer))
    words = outer.split()
    parts = [
        _proto(pairs.get("PROTO", "")),
        _at(pairs.get("SRC", ""), pairs.get("SPT")),
        "->",
        _at(pairs.get("DST", ""), pairs.get("DPT")),
    ]
    notes = []
    if pairs.get("IN"):
        parts += ["in", pairs["IN"]]
    for key, name in (("LEN", "len"), ("TOS", "tos"), ("SPI", "spi")):
        if key in pairs and re.fullmatch(r"0[xX][0-9a-fA-F]+|\d+", pairs[key], re.ASCII):
            parts += [name, pairs[key]]
    if re.fullmatch(r"\d{1,3}", pairs.get("TTL", ""), re.ASCII):
        ttl = int(pairs["TTL"])
        if pairs.get("IN") and pairs.get("OUT"):
            ttl += 1
            notes.append(f"ttl {ttl}: the line was logged after forwarding had taken one off")
        parts += ["ttl", str(min(ttl, 255))]
    if "DF" in words:
        parts.append("df")
    if pairs.get("PROTO") == "TCP":
        flags = "".join(letter for name, letter in _TCP_LOG_FLAGS if name in words)
        parts += ["flags", flags or "-"]
    if pairs.get("PROTO") in ("ICMP", "ICMPv6"):
        for key, name in (("TYPE", "type"), ("CODE", "code"), ("ID", "id"), ("SEQ", "seq")):
            values = re.findall(rf"\b{key}=(\d+)", outer.split("PROTO=", 1)[1])
            if values:
                parts += [name, values[-1]]
    if not pairs.get("IN"):
        for key, name in (("UID", "uid"), ("GID", "gid"), ("MARK", "mark")):
            if pairs.get(key):
                parts += [name, pairs[key]]
    mac = pairs.get("MAC", "").split(":")
    if len(mac) >= 14:
        parts += ["mac", ":".join(mac[6:12])]
    return Pasted(" ".join(p for p in parts if p), "netfilter log", tuple(notes))


def _proto(name: str) -> str:
    name = name.lower()
    return "proto " + name if name.isdigit() else name


# ------------------------------------------------------------------------------------------- conntrack -L

_CONNTRACK = re.compile(
    r"^(?:\[\w+\]\s+)?(?:ipv[46]\s+\d+\s+)?(?P<name>[a-z][\w-]*)\s+(?P<proto>\d+)\s+(?:(?P<timeout>\d+)\s+)?(?:(?P<state>[A-Z][A-Z_0-9]+)\s+)?src=",
    re.ASCII,
)


def _conntrack(line: str) -> Pasted | None:
    """The original direction of an entry, as its next packet."""
    found = _CONNTRACK.match(line)
    if found is None:
        return None
    pairs: dict[str, str] = {}
    for key, value in re.findall(r"(src|dst|sport|dport|type|code|id|mark|zone|zone-orig)=(\S+)", line):
        pairs.setdefault(key, value)
    if "src" not in pairs or "dst" not in pairs:
        return None
    name = found["name"] if found["name"] != "unknown" else f"proto {found['proto']}"
    parts = [name, _at(pairs["src"], pairs.get("sport")), "->", _at(pairs["dst"], pairs.get("dport"))]
    for key in ("type", "code", "id"):
        if key in pairs and name.startswith("icmp"):
            parts += [key, pairs[key]]
    state = found["state"]
    if name == "tcp":
        parts += [
            "flags",
            "S" if state in (None, "NONE", "SYN_SENT", "SYN_RECV", "SYN_SENT2", "CLOSE", "TIME_WAIT") else "A",
        ]
    notes = ["the original direction of the entry"]
    if "zone" in pairs or "zone-orig" in pairs:
        notes.append(
            f"the entry is in zone {pairs.get('zone') or pairs.get('zone-orig')}; the rule set decides it anew"
        )
    return Pasted(" ".join(parts), "conntrack entry", tuple(notes))


# ----------------------------------------------------------------------------------------------- tcpdump

_TCPDUMP = re.compile(
    r"^(?:(?:\d{4}-\d\d-\d\d )?[\d:.]+ )?(?:(?P<dev>\S+) +(?P<way>In|Out|B|M|P) +)?IP6? (?P<head>\([^>]*\) )?"
    r"(?P<src>\S+) > (?P<dst>\S+?): (?P<rest>.*)$"
)
_NAME_PORT = re.compile(r"^(?P<host>.+)\.(?P<port>[^.]+)$")


def _tcpdump(line: str) -> Pasted | None:
    found = _TCPDUMP.match(line)
    if found is None:
        return None
    rest, head = found["rest"], found["head"] or ""
    proto, extra = _tcpdump_kind(rest, head)
    with_ports = proto in ("tcp", "udp", "sctp")
    ends = [_tcpdump_end(found[side], with_ports) for side in ("src", "dst")]
    parts = [proto, ends[0], "->", ends[1], *extra]
    for pattern, name in (
        (r"\bttl (\d+)", "ttl"),
        (r"\btos (0x[0-9a-f]+)", "tos"),
        (r"proto \S+ \(\d+\), length (\d+)", "len"),
    ):
        value = re.search(pattern, head)
        if value:
            parts += [name, value[1]]
    if "[DF]" in head:
        parts.append("df")
    if found["dev"] and found["way"] not in (None, "Out"):
        parts += ["in", found["dev"]]
    return Pasted(" ".join(parts), "tcpdump line")


def _tcpdump_kind(rest: str, head: str) -> tuple[str, list[str]]:
    flags = re.match(r"(?:tcp )?Flags \[([^\]]*)\]", rest)
    if flags:
        return "tcp", ["flags", flags[1].replace(".", "A").replace("none", "-").replace("W", "C") or "-"]
    icmp = re.match(r"ICMP6?,? (?P<what>.*)", rest)
    if icmp:
        extra = []
        what = icmp["what"]
        v6 = rest.startswith("ICMP6")
        types = {"echo request": (8, 128), "echo reply": (0, 129), "time exceeded": (11, 3), "redirect": (5, 137)}
        kind = next(
            (t for name, t in types.items() if what.startswith(name)), (3, 1) if "unreachable" in what else None
        )
        if kind:
            extra = ["type", str(kind[v6])]
        for name in ("id", "seq"):
            value = re.search(rf"\b{name} (\d+)", what)
            if value:
                extra += [name, value[1]]
        return ("icmpv6" if v6 else "icmp"), extra
    named = re.search(r"proto (\S+) \((\d+)\)", head)
    if named:
        return _proto(named[2]) if named[1].lower() in ("unknown", "options") else named[1].lower(), []
    if rest.startswith("sctp"):
        return "sctp", []
    if rest.startswith(("ESP(", "AH(", "GRE")):
        spi = re.search(r"spi=(0x[0-9a-f]+)", rest)
        return re.split(r"[(,v]", rest)[0].lower(), ["spi", spi[1]] if spi else []
    return "udp", []  # UDP, NTP, DNS answers …: tcpdump prints the application's words


def _tcpdump_end(text: str, with_ports: bool) -> str:
    if not with_ports:
        return text
    found = _NAME_PORT.match(text)
    if found is None or (found["host"].count(".") < 3 and re.fullmatch(r"[\d.]+", text)):
        return text
    return _at(found["host"], found["port"])


# ----------------------------------------------------------------------------------------------------- ss

_SS_STATES = {
    "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSE-WAIT", "LAST-ACK", "CLOSING",
    "UNCONN", "LISTEN", "CLOSED",
}  # fmt: skip
_SS = re.compile(
    r"^(?:(?P<netid>tcp|udp|sctp|dccp|icmp|raw|mptcp)\s+)?(?P<state>[A-Z0-9-]+)\s+\d+\s+\d+\s+(?P<local>\S+)\s+(?P<peer>\S+)(?:\s|$)"
)


def _ss(line: str) -> Pasted | None:
    """A socket's next packet: local address → peer. Without a Netid column it is ``ss -tn``."""
    found = _SS.match(line)
    if found is None or found["state"] not in _SS_STATES:
        return None
    if found["peer"].endswith("*"):
        raise _listening(line, found)
    proto = found["netid"] or "tcp"
    parts = [proto, _ss_end(found["local"]), "->", _ss_end(found["peer"])]
    if proto == "tcp":
        parts += ["flags", "S" if found["state"] == "SYN-SENT" else "SA" if found["state"] == "SYN-RECV" else "A"]
    uid = re.search(r"\buid:(\d+)", line)
    if uid:
        parts += ["uid", uid[1]]
    return Pasted(" ".join(parts), "socket of ss", ("what the socket sends next",))


def _listening(line: str, found: re.Match[str]) -> FlowError:
    port = found["local"].rpartition(":")[2]
    remedy = f"say who connects, for example: {found['netid'] or 'tcp'} 192.0.2.1 -> ADDRESS:{port} in eth0"
    return fail(line, found.start("peer"), "a listening socket is not a flow yet", remedy)


def _ss_end(text: str) -> str:
    host, _, port = text.rpartition(":")
    host = re.sub(r"%[^\]:]*", "", host).removeprefix("[").removesuffix("]").removeprefix("::ffff:")
    return _at(host, port)
