"""Packets as JSON records (the contract's ``simulate`` keys) to bytes and back, checksums right.

frame = build({"proto": "udp", "src": "10.0.0.2", "dst": "8.8.8.8", "sport": 4000, "dport": 53})
parse(frame)["dport"]                 # 53
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from ...sim.model.packet import PROTO_NAME, PROTO_NUMBER, flags_from_text, flags_to_text

SCTP_INIT = struct.pack("!BBHIIHHI", 1, 0, 20, 0x11111111, 65535, 1, 1, 1)  # the chunk of a packet that names none
_WITH_ERROR_BODY = (3, 4, 5, 11, 12)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def number_of(proto: Any) -> int:
    """``tcp``, ``6`` or 6."""
    if isinstance(proto, int):
        return proto
    return PROTO_NUMBER[proto] if proto in PROTO_NUMBER else int(proto)


def build(record: dict[str, Any]) -> bytes:
    """The IPv4 packet of a record, from the IP header on; ``len`` pads or, for a quoted packet, only declares."""
    proto = number_of(record.get("proto", "icmp"))
    body = transport(record, proto)
    total = record.get("len") or 20 + len(body)
    return ip_header(record, proto, total) + body


def ip_header(record: dict[str, Any], proto: int, total: int) -> bytes:
    """20 bytes with the checksum in place."""
    flags = 0x4000 if record.get("df", proto == 6) else 0
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, record.get("tos", 0), total, record.get("ip_id", 0) or 0, flags, record.get("ttl", 64), proto, 0,
        socket.inet_aton(record.get("src") or "0.0.0.0"), socket.inet_aton(record["dst"]),
    )  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:]


def transport(record: dict[str, Any], proto: int | None = None) -> bytes:
    """Everything after the IP header, filled up to ``len`` with a recognisable pattern."""
    proto = number_of(record.get("proto", "icmp")) if proto is None else proto
    head = _header(record, proto)
    if isinstance(record.get("payload"), str):
        head += bytes.fromhex(record["payload"])
    missing = (record.get("len") or 0) - 20 - len(head)
    if missing > 0:
        head += bytes(65 + i % 26 for i in range(missing))
    return _with_checksum(record, proto, head)


def _header(record: dict[str, Any], proto: int) -> bytes:
    sport, dport = record.get("sport", 0), record.get("dport", 0)
    if proto == 6:
        options = struct.pack("!BBH", 2, 4, record["mss"]) if record.get("mss") is not None else b""
        return struct.pack(
            "!HHIIBBHHH", sport, dport, record.get("tcp_seq", 0) & 0xFFFFFFFF, record.get("tcp_ack", 0) & 0xFFFFFFFF,
            (20 + len(options)) // 4 << 4, flags_from_text(record.get("flags") or "S"), record.get("window", 65535), 0, 0,
        ) + options  # fmt: skip
    if proto == 17:
        size = (record.get("len") or 28 + len(record.get("payload") or "") // 2) - 20
        return struct.pack("!HHHH", sport, dport, size, 0)
    if proto == 136:
        # Coverage of the header only: with a full one nf_ip_checksum() (net/netfilter/utils.c) leaves out the pseudo
        # header and finds every received datagram wrong.
        return struct.pack("!HHHH", sport, dport, 8, 0)
    if proto == 1:
        return _icmp(record)
    if proto == 132:
        chunks = b"" if isinstance(record.get("payload"), str) else SCTP_INIT
        return struct.pack("!HHII", sport, dport, 0, 0) + chunks
    if proto == 33:
        return struct.pack("!HHBBHBBHI", sport, dport, 4, 0, 0, 1, 0, 0, 1)[:16]
    if proto in (50, 51):
        spi = record.get("spi", 0)
        return struct.pack("!II", spi, 1) if proto == 50 else struct.pack("!BBHII", 59, 1, 0, spi, 1)
    if proto == 47:
        return struct.pack("!HH", 0, 0x0800)
    return b""


def _icmp(record: dict[str, Any]) -> bytes:
    kind, code = record.get("type", 8), record.get("code", 0)
    if record.get("inner") is not None:
        rest = (
            socket.inet_aton(record["gateway"])
            if record.get("gateway")
            else struct.pack("!HH", 0, record.get("mtu", 0) or 0)
        )
        return struct.pack("!BBH", kind, code, 0) + rest + build(record["inner"])[:548]
    return struct.pack("!BBHHH", kind, code, 0, record.get("icmp_id", 0), record.get("seq", 0))


def _with_checksum(record: dict[str, Any], proto: int, data: bytes) -> bytes:
    src, dst = record.get("src") or "0.0.0.0", record["dst"]
    pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!BBH", 0, proto, len(data))
    if proto == 6:
        return data[:16] + struct.pack("!H", checksum(pseudo + data)) + data[18:]
    if proto == 136:
        return data[:6] + struct.pack("!H", checksum(pseudo + data[:8]) or 0xFFFF) + data[8:]
    if proto == 17:
        return data[:6] + struct.pack("!H", checksum(pseudo + data) or 0xFFFF) + data[8:]
    if proto == 1:
        return data[:2] + struct.pack("!H", checksum(data)) + data[4:]
    if proto == 132:
        return data[:8] + struct.pack("<I", _crc32c(data)) + data[12:]
    if proto == 33:
        return data[:6] + struct.pack("!H", checksum(pseudo + data)) + data[8:]
    return data


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def parse(data: bytes, quoted: bool = False) -> dict[str, Any]:
    """An IPv4 packet to its record; ``quoted``: the truncated packet inside an ICMP error. Raises ValueError."""
    if len(data) < 20 or data[0] >> 4 != 4:
        raise ValueError("not an IPv4 packet")
    _, tos, total, ip_id, fragment, ttl, proto, _, src, dst = struct.unpack("!BBHHHBBH4s4s", data[:20])
    header = (data[0] & 15) * 4
    out: dict[str, Any] = {
        "proto": PROTO_NAME.get(proto, str(proto)), "src": socket.inet_ntoa(src), "dst": socket.inet_ntoa(dst), "ttl": ttl,
        "tos": tos, "len": total, "df": bool(fragment & 0x4000), "ip_id": ip_id,
    }  # fmt: skip
    if fragment & 0x3FFF:
        out["frag"] = (fragment & 0x1FFF) * 8
        out["mf"] = bool(fragment & 0x2000)
        if fragment & 0x1FFF:
            return out
    body = data[header:] if quoted else data[header:total]
    if proto in (6, 17, 33, 132, 136) and len(body) >= 4:
        out["sport"], out["dport"] = struct.unpack("!HH", body[:4])
    if proto == 6 and len(body) >= 20:
        out["tcp_seq"], out["tcp_ack"] = struct.unpack("!II", body[4:12])
        out["flags"] = flags_to_text(body[13])
        out["window"] = struct.unpack("!H", body[14:16])[0]
        out["mss"] = _mss(body[20 : (body[12] >> 4) * 4])
    elif proto == 6 and len(body) >= 8:
        out["tcp_seq"] = struct.unpack("!I", body[4:8])[0]
    if proto == 1 and len(body) >= 8:
        out["type"], out["code"] = body[0], body[1]
        if body[0] in _WITH_ERROR_BODY and len(body) >= 28:
            out["inner"] = parse(body[8:], quoted=True)
            if body[0] == 3 and body[1] == 4:
                out["mtu"] = struct.unpack("!H", body[6:8])[0]
            if body[0] == 5:
                out["gateway"] = socket.inet_ntoa(body[4:8])
        else:
            out["icmp_id"], out["seq"] = struct.unpack("!HH", body[4:8])
    if proto == 50 and len(body) >= 4:
        out["spi"] = struct.unpack("!I", body[:4])[0]
    if proto == 51 and len(body) >= 8:
        out["spi"] = struct.unpack("!I", body[4:8])[0]
    return out


def _mss(options: bytes) -> int | None:
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if at + 1 >= len(options) or options[at + 1] < 2:
            break
        if kind == 2 and options[at + 1] == 4 and at + 4 <= len(options):
            return int.from_bytes(options[at + 2 : at + 4], "big")
        at += options[at + 1]
    return None


def mac_bytes(text: str) -> bytes:
    """``02:00:00:00:00:01`` to six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def arp_reply(request: bytes, mac: bytes) -> bytes | None:
    """The frame that answers an ARP request frame, or None when it is none (RFC 826)."""
    if len(request) < 42 or request[12:14] != b"\x08\x06" or request[20:22] != b"\0\1":
        return None
    sender_mac, sender_ip, target_ip = request[22:28], request[28:32], request[38:42]
    if sender_ip == target_ip:
        return None  # announcement
    body = b"\0\1\x08\0\6\4\0\2" + mac + target_ip + sender_mac + sender_ip
    return sender_mac + mac + b"\x08\x06" + body
