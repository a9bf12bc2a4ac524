"""A snapshot without a real address, name or comment, in which everything else is as it was.

Equal stays equal, a prefix stays a prefix (addresses that share n bits still share n bits, for n up to 24), special
ranges keep their class (private, loopback, multicast …). So rules, routes and conntrack entries fit together as before.
The key is drawn anew for each run and kept nowhere. What could not be kept is said in the notes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...sim.model.addr import AF_INET, format_addr, parse_addr

_V4 = r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\.\d)"
_IPV4 = re.compile(rf"({_V4})(?:(-)({_V4})|/(\d{{1,2}})(?!\d))?")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?:/(\d{1,3}))?(?![\w:])")
_MAC = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}(?![\w:])")

# Ranges whose meaning the simulator knows: the path to them is kept, what lies below is scrambled.
_KEPT_PATHS = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/3",
)
_UNTOUCHED = ((0, 8), (127 << 24, 8), (7 << 29, 3))
_KEPT_NAMES = frozenset(("lo", "all", "default", "none", "root", "any"))


class Scrambler:
    """The mapping of one run: addresses, hardware addresses, names, comments."""

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key or secrets.token_bytes(32)
        self.cache: dict[int, int] = {}
        self.names: dict[tuple[str, str], str] = {}
        self.counts: dict[str, int] = {}
        self.notes: list[str] = []
        self.anchors: list[str] = []  # interface name prefixes that a wildcard names
        self.fixed = {self._path(text) for text in _KEPT_PATHS}

    @staticmethod
    def _path(text: str) -> tuple[int, int]:
        head, _, length = text.partition("/")
        return parse_addr(head)[1] >> (32 - int(length)), int(length)

    def _flip(self, prefix: int, length: int) -> int:
        """Whether the bit after a prefix is turned; never on the way to a range whose meaning is known."""
        for value, plen in self.fixed:
            if plen > length and value >> (plen - length) == prefix:
                return 0
        digest = hashlib.blake2b(f"{length}:{prefix}".encode(), key=self.key, digest_size=1).digest()
        return digest[0] & 1

    def v4(self, value: int) -> int:
        """Prefix-preserving in the first 24 bits; the last byte stays, so that ranges and broadcasts survive."""
        if any(value >> (32 - plen) == base >> (32 - plen) for base, plen in _UNTOUCHED):
            return value
        found = self.cache.get(value >> 8)
        if found is None:
            found = 0
            for length in range(24):
                found = found << 1 | (value >> (31 - length) & 1) ^ self._flip(value >> (32 - length), length)
            self.cache[value >> 8] = found
        return found << 8 | value & 255

    def v6(self, value: int) -> int:
        """The same for IPv6, up to /120; loopback, multicast, link-local and mapped prefixes stay."""
        if value < 2 or value >> 120 == 0xFF or value >> 32 == 0xFFFF:
            return value
        keep = 64 if value >> 118 == 0x3FA else 8 if value >> 121 == 0x7E else 3
        out = value >> (128 - keep)
        for length in range(keep, 120):
            prefix = value >> (128 - length)
            digest = hashlib.blake2b(f"6:{length}:{prefix}".encode(), key=self.key, digest_size=1).digest()
            out = out << 1 | (value >> (127 - length) & 1) ^ digest[0] & 1
        return out << 8 | value & 255

    def address(self, text: str) -> str:
        """One address, ``A/len`` (host bits that were zero stay zero), or ``A-B``."""
        try:
            return self.addresses(text)
        except ValueError:
            return text

    def network(self, value: int, plen: int) -> int:
        """A network keeps its zero host bits; an address with a length is an address."""
        host = (1 << (32 - plen)) - 1
        mapped = self.v4(value)
        if value & host == 0:
            return mapped & ~host
        if value & host == host:  # its broadcast address
            return mapped | host
        return mapped

    def mac(self, text: str) -> str:
        octets = bytes.fromhex(text.replace(":", ""))
        if octets in (b"\0" * 6, b"\xff" * 6) or octets[0] & 1:
            return text
        digest = hashlib.blake2b(octets, key=self.key, digest_size=5).digest()
        return ":".join(f"{b:02x}" for b in b"\x02" + digest)

    def name(self, kind: str, text: str) -> str:
        """Equal names of a kind get equal tokens."""
        if text in _KEPT_NAMES or not text:
            return text
        token = self.names.get((kind, text))
        if token is None:
            self.counts[kind[0]] = self.counts.get(kind[0], 0) + 1
            token = self.names[kind, text] = f"{kind[0]}{self.counts[kind[0]]}"
        return token

    def interface(self, text: str) -> str:
        """``eth+`` must still match what it matched: names below a wildcard keep a common beginning."""
        if text in _KEPT_NAMES or not text:
            return text
        if text.endswith("+"):
            return self._anchored(text[:-1]) + "+"
        if text in self.anchors:
            return self._anchored(text)
        return self._anchored_name(text)

    def _anchored(self, prefix: str) -> str:
        if not prefix:
            return ""
        shorter = max((a for a in self.anchors if a and prefix.startswith(a) and a != prefix), key=len, default="")
        return self._anchored(shorter) + self.name("x", f"{shorter}\0{prefix}")

    def _anchored_name(self, text: str) -> str:
        anchor = max((a for a in self.anchors if a and text.startswith(a)), key=len, default="")
        return self._anchored(anchor) + self.name("if", text)

    # ------------------------------------------------------------------------------------------- texts

    def addresses(self, text: str) -> str:
        """Every address in a text."""
        text = _MAC.sub(lambda m: self.mac(m[0]), text)
        text = _IPV4.sub(self._v4_match, text)
        return _IPV6.sub(self._v6_match, text)

    def _v4_match(self, match: re.Match[str]) -> str:
        try:
            value = parse_addr(match[1])[1]
            if match[2]:
                return self._range(value, parse_addr(match[3])[1])
        except ValueError:
            return match[0]
        if match[4] is not None and int(match[4]) <= 32:
            return f"{format_addr(AF_INET, self.network(value, int(match[4])))}/{match[4]}"
        if _is_mask(value):
            return match[0]
        return format_addr(AF_INET, self.v4(value))

    def _range(self, low: int, high: int) -> str:
        a, b = self.v4(low), self.v4(high)
        if low >> 8 != high >> 8:
            size = high - low + 1
            if size & (size - 1) == 0 and low % size == 0:  # a network written as a range
                a = self.v4(low) & ~(size - 1)
                b = a | (size - 1)
            else:
                a, b = min(a, b), max(a, b)
                self.notes.append("a range of addresses across several /24 is not the same set of addresses any more")
        return f"{format_addr(AF_INET, a)}-{format_addr(AF_INET, b)}"

    def _v6_match(self, match: re.Match[str]) -> str:
        head, slash, length = match[0].partition("/")
        try:
            family, value = parse_addr(head)
        except (ValueError, OSError):
            return match[0]
        mapped = self.v6(value)
        if slash and int(length) <= 128:
            host = (1 << (128 - int(length))) - 1
            mapped = mapped & ~host if value & host == 0 else mapped
        return f"{format_addr(family, mapped)}{slash}{length}"


def _is_mask(value: int) -> bool:
    inverse = ~value & 0xFFFFFFFF
    return value >> 31 == 1 and inverse & (inverse + 1) == 0


# ---------------------------------------------------------------------------------------------- files


def anonymize(root: Path, key: bytes | None = None) -> list[str]:
    """Rewrite a snapshot directory in place; returns notes about what could not be kept."""
    scrambler = Scrambler(key)
    homes = [p for p in sorted(root.iterdir()) if p.is_dir()] or [root]
    for home in homes:
        _collect_anchors(home, scrambler)
    scrambler.anchors = sorted(set(scrambler.anchors))
    for home in homes:
        for path in sorted(home.iterdir()):
            if path.is_file():
                _rewrite(path, scrambler)
        if home is not root:
            home.rename(home.with_name(scrambler.name("host", home.name)))
    index = root / "snapshot.json"
    if index.is_file():
        data = json.loads(index.read_text())
        data["hosts"] = [scrambler.name("host", h) for h in data.get("hosts", ())]
        for segment in data.get("segments", ()):
            segment["name"] = scrambler.name("net", str(segment.get("name", "")))
            segment["members"] = [_member(m, scrambler) for m in segment.get("members", ())]
        _write(index, json.dumps(data, indent=1) + "\n")
    return list(dict.fromkeys(scrambler.notes))


def _member(text: str, scrambler: Scrambler) -> str:
    host, _, dev = text.partition(":")
    return f"{scrambler.name('host', host)}:{scrambler.interface(dev)}"


def _write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _collect_anchors(home: Path, scrambler: Scrambler) -> None:
    for path in home.glob("*tables*save.txt"):
        for found in re.finditer(
            r"(?:-i|-o|--physdev-in|--physdev-out|--in-interface|--out-interface) (\S+)\+(?=\s|$)", path.read_text()
        ):
            scrambler.anchors.append(found[1])


def _rewrite(path: Path, scrambler: Scrambler) -> None:
    text = path.read_text(errors="replace")
    worker = _WORKERS.get(path.name) or (_json_file if path.suffix == ".json" else None)
    if worker is None and path.name.endswith("save.txt"):
        worker = _save_file
    if worker is None:
        worker = _plain_file
    try:
        _write(path, worker(text, scrambler))
    except ValueError:
        path.unlink()
        scrambler.notes.append(f"{path.name}: not understood, left out")


def _plain_file(text: str, scrambler: Scrambler) -> str:
    """Words that name a device after ``dev``, ``iif``…; addresses everywhere; nothing else is known about it."""
    text = re.sub(
        r"\b(dev|iif|oif|master|link/\S+ dev|via dev) (\S+)",
        lambda m: f"{m[1]} {scrambler.interface(m[2])}",
        scrambler.addresses(text),
    )
    return re.sub(r"^(\d+: )([^:@\s]+)", lambda m: m[1] + scrambler.interface(m[2]), text, flags=re.M)


_INTERFACE_KEYS = frozenset(
    ("ifname", "dev", "link", "master", "iif", "oif", "iifname", "oifname", "parentdev", "bridge")
)
_ADDRESS_KEYS = frozenset((
    "local", "address", "broadcast", "dst", "src", "gateway", "prefsrc", "lladdr", "host", "permaddr", "link_pointtopoint",
    "remote", "group", "anycast", "mac",
))  # fmt: skip
_DROPPED_KEYS = frozenset(("ifalias", "comment", "altnames", "phys_port_name", "phys_switch_id", "prog"))


def _json_file(text: str, scrambler: Scrambler) -> str:
    return json.dumps(_json_value(json.loads(text or "[]"), "", scrambler)) + "\n"


def _json_value(value: Any, key: str, scrambler: Scrambler) -> Any:
    if isinstance(value, dict):
        length = value.get("prefixlen")
        out = {}
        for k, v in value.items():
            if k in _DROPPED_KEYS and k != "prog":
                continue
            length = value.get(f"{k}len") if k in ("src", "dst") else length
            if (
                k in _ADDRESS_KEYS
                and isinstance(v, str)
                and isinstance(length, int)
                and "/" not in v
                and "." in v
                and k in ("src", "dst")
            ):
                out[k] = scrambler.addresses(f"{v}/{length}").partition("/")[0]
            elif k == "label" and isinstance(v, str):
                head, colon, tail = v.partition(":")
                out[k] = scrambler.interface(head) + colon + tail
            else:
                out[k] = _json_value(v, k, scrambler)
        return out
    if isinstance(value, list):
        return [_json_value(v, key, scrambler) for v in value]
    if isinstance(value, str):
        if key in _INTERFACE_KEYS:
            return scrambler.interface(value)
        if key in ("hostname", "netns"):
            return scrambler.name("host", value)
        return scrambler.addresses(value)
    return value


_BUILT_IN = frozenset((
    "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "ACCEPT", "DROP", "RETURN", "QUEUE", "-",
))  # fmt: skip
_NAMED_OPTIONS = {  # option → kind of name that follows
    **dict.fromkeys(("--match-set", "--add-set", "--del-set", "--map-set"), "set"),
    **dict.fromkeys(("--name", "--hashlimit-name"), "list"),
    **dict.fromkeys(("--log-prefix", "--nflog-prefix", "--ulog-prefix", "--prefix", "--comment"), "comment"),
    **dict.fromkeys(("--string", "--hex-string"), "text"),
    **dict.fromkeys(("--rateest", "--rateest1", "--rateest2", "--rateest-name"), "rate"),
    "--path": "cgroup", "--timeout": "policy", "--nfacct-name": "acct", "--label": "timer", "--selctx": "context",
    "--led-trigger-id": "led",
}  # fmt: skip
_INTERFACE_OPTIONS = frozenset(
    ("-i", "-o", "--in-interface", "--out-interface", "--physdev-in", "--physdev-out", "--oif")
)


def _save_file(text: str, scrambler: Scrambler) -> str:
    """``iptables-save``: chains, sets, comments, devices by the option before them; addresses everywhere."""
    chains = {m[1] for m in re.finditer(r"^:(\S+)", text, re.M)} | {m[1] for m in re.finditer(r"-N (\S+)", text)}
    out = []
    for line in text.splitlines():
        if line.startswith("#"):
            if line.startswith("# Generated by"):
                out.append(line.rpartition(" on ")[0] + " on Thu Jan  1 00:00:00 1970")
            continue
        if line.startswith(":"):
            name, _, rest = line[1:].partition(" ")
            out.append(f":{_chain(name, scrambler)} {rest}")
            continue
        out.append(_save_line(line, chains, scrambler))
    return "\n".join(out) + "\n" if out else ""


def _chain(name: str, scrambler: Scrambler) -> str:
    return name if name in _BUILT_IN else scrambler.name("nchain", name)


def _save_line(line: str, chains: set[str], scrambler: Scrambler) -> str:
    words = re.findall(r'"(?:\\.|[^"\\])*"|\S+', line)
    out: list[str] = []
    before = ""
    for word in words:
        kind = _NAMED_OPTIONS.get(before)
        if before in ("-A", "-j", "-g", "-N", "--jump", "--goto") and word in chains | {
            w for w in (word,) if before == "-A"
        }:
            word = _chain(word, scrambler)
        elif kind == "text":
            scrambler.notes.append("strings that rules look for in payloads are replaced by others of the same length")
            word = _same_length(word, scrambler)
        elif kind is not None:
            bare = word.strip('"')
            word = scrambler.name(kind, bare)
        elif before in _INTERFACE_OPTIONS:
            word = scrambler.interface(word)
        elif before in ("--uid-owner", "--gid-owner") and not word[0].isdigit():
            word = scrambler.name("user", word)
        else:
            word = scrambler.addresses(word)
        out.append(word)
        if word != "!":
            before = word
    return " ".join(out)


def _same_length(word: str, scrambler: Scrambler) -> str:
    body = word.strip('"')
    digest = hashlib.blake2b(body.encode(), key=scrambler.key, digest_size=32).hexdigest()
    return (digest * (len(body) // len(digest) + 1))[: len(body)]


def _ipset_file(text: str, scrambler: Scrambler) -> str:
    """``ipset save``: set names, elements (addresses, members, devices), comments."""
    sets = {m[1]: m[2] for m in re.finditer(r"^create (\S+) (\S+)", text, re.M)}
    out = []
    for line in text.splitlines():
        words = re.findall(r'"(?:\\.|[^"\\])*"|\S+', line)
        if len(words) < 2:
            continue
        kind = sets.get(words[1], "")
        words[1] = scrambler.name("set", words[1])
        if words[0] == "add" and len(words) > 2:
            if kind == "list:set":
                words[2] = scrambler.name("set", words[2])
            else:
                parts = words[2].split(",")
                if kind.endswith(",iface"):
                    physdev, _, device = parts[-1].rpartition(":")
                    parts[-1] = (physdev + ":" if physdev else "") + scrambler.interface(device)
                words[2] = ",".join(scrambler.addresses(p) for p in parts)
        for position, word in enumerate(words[3:], 3):
            if words[position - 1] == "comment":
                words[position] = f'"{scrambler.name("comment", word)}"'
            elif words[position - 1] in ("range",):
                words[position] = scrambler.addresses(word)
        out.append(" ".join(words))
    return "\n".join(out) + "\n" if out else ""


def _sysctl_file(text: str, scrambler: Scrambler) -> str:
    """Device names in the keys; values that name somebody (host name, domain) are not in ``net.*``."""
    out = []
    for line in text.splitlines():
        name, equals, value = line.partition(" = ")
        parts = name.split(".")
        if len(parts) > 4 and parts[2] in ("conf", "neigh"):
            parts[3] = scrambler.interface(parts[3].replace("/", ".")).replace(".", "/")
        if parts[-1] in ("tcp_fastopen_key", "stable_secret"):
            continue
        out.append(".".join(parts) + equals + scrambler.addresses(value))
    return "\n".join(out) + "\n" if out else ""


def _sockets_file(text: str, scrambler: Scrambler) -> str:
    """``ss``: without processes' names, with devices renamed."""
    text = re.sub(r" users:\(\([^\s]*\)\)", "", text)
    text = re.sub(r"%([^\s:\]]+)", lambda m: "%" + scrambler.interface(m[1]), text)
    text = re.sub(
        r"cgroup:(\S+)", lambda m: "cgroup:" + (m[1] if m[1] == "/" else "/" + scrambler.name("cgroup", m[1])), text
    )
    return scrambler.addresses(text)


def _accounts_file(text: str, scrambler: Scrambler) -> str:
    """passwd and group: the name and the number."""
    out = []
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) < 3:
            continue
        name = scrambler.name("user", parts[0])
        if len(parts) >= 7:
            out.append(f"{name}:x:{parts[2]}:{parts[3]}::/:/bin/sh")
        else:
            members = ",".join(scrambler.name("user", m) for m in parts[3].split(",") if m) if len(parts) > 3 else ""
            out.append(f"{name}:x:{parts[2]}:{members}")
    return "\n".join(out) + "\n" if out else ""


def _hosts_file(text: str, scrambler: Scrambler) -> str:
    out = []
    for line in text.splitlines():
        words = line.split()
        if words:
            out.append(
                " ".join(
                    [
                        scrambler.addresses(words[0]),
                        *(w if w == "localhost" else scrambler.name("host", w) for w in words[1:]),
                    ]
                )
            )
    return "\n".join(out) + "\n" if out else ""


def _meta_file(text: str, scrambler: Scrambler) -> str:
    data = json.loads(text)
    for key in ("hostname", "netns"):
        if data.get(key):
            data[key] = scrambler.name("host", data[key])
    return json.dumps(data, indent=1) + "\n"


def _nft_file(text: str, scrambler: Scrambler) -> str:
    """Names of tables of iptables stay, so that they are still known as such; other names and comments go."""
    data = json.loads(text or "{}")
    known = {"filter", "nat", "mangle", "raw", "security"}

    def walk(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {k: walk(v, k) for k, v in value.items() if k not in ("comment", "prefix")}
        if isinstance(value, list):
            return [walk(v, key) for v in value]
        if isinstance(value, str):
            if key == "table" and value not in known:
                return scrambler.name("table", value)
            if key in ("chain", "target") and value not in _BUILT_IN:
                return scrambler.name("nchain", value)
            if value.startswith("@"):
                return "@" + scrambler.name("set", value[1:])
            return scrambler.addresses(value)
        return value

    for item in data.get("nftables", ()):
        for kind, body in item.items():
            if kind == "chain" and body.get("name") not in _BUILT_IN:
                body["name"] = scrambler.name("nchain", body["name"])
            elif kind == "table" and body.get("name") not in known:
                body["name"] = scrambler.name("table", body["name"])
            elif kind in ("set", "map") and "name" in body:
                body["name"] = scrambler.name("set", body["name"])
            item[kind] = walk(_nft_devices(body, scrambler), kind)
    return json.dumps(data) + "\n"


def _nft_devices(body: Any, scrambler: Scrambler) -> Any:
    if not isinstance(body, dict):
        return body
    for expression in body.get("expr", ()) if isinstance(body.get("expr"), list) else ():
        match = expression.get("match") if isinstance(expression, dict) else None
        if isinstance(match, dict) and isinstance(match.get("left"), dict):
            meta = match["left"].get("meta")
            if (
                isinstance(meta, dict)
                and meta.get("key") in ("iifname", "oifname", "iif", "oif")
                and isinstance(match.get("right"), str)
            ):
                name = match["right"]
                match["right"] = (
                    scrambler.interface(name[:-1] + "+")[:-1] + "*" if name.endswith("*") else scrambler.interface(name)
                )
    return body


_WORKERS: dict[str, Callable[[str, Scrambler], str]] = {
    "ipset.txt": _ipset_file,
    "sysctl.txt": _sysctl_file,
    "sockets.txt": _sockets_file,
    "passwd.txt": _accounts_file,
    "group.txt": _accounts_file,
    "hosts.txt": _hosts_file,
    "meta.json": _meta_file,
    "nft.json": _nft_file,
}
