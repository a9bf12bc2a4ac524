"""Random iptables rules and ipsets for a situation: every table, match and target that the product claims.

Each maker returns words, or "" where it does not apply to that table, chain or protocol. What iptables refuses all the
same is dropped when the situation is built, so a maker may be a little too generous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .generator import Situation

CHAINS = {
    "raw": ["PREROUTING", "OUTPUT"],
    "mangle": ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
    "nat": ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
    "filter": ["INPUT", "FORWARD", "OUTPUT"],
    "security": ["INPUT", "FORWARD", "OUTPUT"],
}
HAS_IN = {"PREROUTING", "INPUT", "FORWARD"}
HAS_OUT = {"FORWARD", "OUTPUT", "POSTROUTING"}


class RuleWriter:
    """Writes the rules of one host."""

    def __init__(self, situation: Situation, host: str) -> None:
        self.s, self.host = situation, host
        self.rnd, self.pick, self.chance = situation.rnd, situation.pick, situation.chance
        self.devices = list(situation.hosts[host]["interfaces"])
        self.own = situation.own[host] or ["10.9.9.9"]
        self.around = situation._around(host) or ["10.9.9.8"]
        everyone = [a for owners in situation.own.values() for a in owners]
        from .generator import REMOTES

        self.remotes = REMOTES
        self.addresses = [*self.own, *self.around, *REMOTES, *everyone]
        self.set_names: list[tuple[str, str]] = []
        self.number = 0

    # --------------------------------------------------------------------------------------------- sets

    def sets(self) -> list[str]:
        """``ipset restore`` lines; remembers (name, type)."""
        out: list[str] = []
        kinds = ["hash:ip", "hash:net", "hash:ip,port", "hash:net,port", "bitmap:port", "hash:net,iface", "hash:ip,port,ip",
                 "hash:ip,port,net", "list:set", "bitmap:ip"]  # fmt: skip
        for number, kind in enumerate(self.rnd.sample(kinds, self.rnd.randint(1, 4))):
            name = f"set{number}"
            if kind == "list:set":
                members = [n for n, k in self.set_names if k in ("hash:ip", "hash:net")]
                if not members:
                    continue
                out.append(f"create {name} list:set")
                out += [f"add {name} {m}" for m in members]
            else:
                options = {"bitmap:port": " range 0-65535", "bitmap:ip": " range 10.0.0.0/16"}.get(kind, "")
                timeout = " timeout 600" if self.chance(0.2) else ""
                out.append(f"create {name} {kind}{options}{timeout}")
                for element in dict.fromkeys(self._element(kind) for _ in range(self.rnd.randint(1, 6))):
                    nomatch = " nomatch" if kind in ("hash:net", "hash:net,port") and self.chance(0.25) else ""
                    if element:
                        out.append(f"add {name} {element}{nomatch}")
            self.set_names.append((name, kind))
        return out

    def _element(self, kind: str) -> str:
        port = f"{self.pick(['udp', 'tcp'])}:{self.pick([53, 80, 443, 8080, 4000])}"
        address = self.pick(self.addresses)
        net = f"{address.rsplit('.', 1)[0]}.0/{self.pick([24, 24, 25])}" if self.chance(0.6) else address
        parts = {"ip": address, "net": net, "port": port, "iface": self.pick(self.devices)}
        if kind == "bitmap:port":
            return str(self.pick([53, 80, 443, 8080, 4000, 4001]))
        if kind == "bitmap:ip":
            return ""
        words = kind.partition(":")[2].split(",")
        out = [parts[w] for w in words]
        if words == ["ip", "port", "ip"]:
            out[2] = self.pick(self.addresses)
        if words == ["ip", "port", "net"]:
            out[0] = self.pick(self.addresses)
        return ",".join(out)

    # -------------------------------------------------------------------------------------------- rules

    def rules(self) -> list[str]:
        """``-t TABLE -A CHAIN …`` lines in restore order; user chains first."""
        out: list[str] = []
        level = self.s.level
        tables = {"filter": 0.8, "nat": 0.75, "mangle": 0.5, "raw": 0.35, "security": 0.1}
        if level < 2:
            tables = {"filter": 0.8, "nat": 0.9, "mangle": 0.2}
        for table, p in tables.items():
            if not self.chance(p):
                continue
            users = [f"U{n}" for n in range(self.rnd.choice([0, 0, 1, 2, 3]))] if level > 1 else []
            out += [f"-t {table} -N {u}" for u in users]
            for base in CHAINS[table]:
                if table in ("filter", "security", "mangle", "raw") and self.chance(
                    0.05 if table == "filter" else 0.01
                ):
                    out.append(f"-t {table} -P {base} DROP")
            for position, user in enumerate(users):
                for _ in range(self.rnd.randint(1, 3)):
                    out.append(self._rule(table, user, users[position + 1 :]))
            for base in CHAINS[table]:
                for _ in range(self.rnd.choice([0, 1, 1, 2, 3, 4])):
                    out.append(self._rule(table, base, users))
        return [rule for rule in dict.fromkeys(out) if rule]

    def _rule(self, table: str, chain: str, users: list[str]) -> str:
        base = chain if chain in HAS_IN | HAS_OUT else ""
        words: list[str] = []
        if self.chance(0.3):
            words.append(self._address("-s"))
        if self.chance(0.3):
            words.append(self._address("-d"))
        if self.chance(0.25) and (base in HAS_IN):
            words.append(self._device("-i"))
        if self.chance(0.3) and (base in HAS_OUT):
            words.append(self._device("-o"))
        proto = ""
        if self.chance(0.5):
            proto = self.pick(["udp", "udp", "tcp", "tcp", "icmp", "icmp", "udplite", "sctp", "esp", "99"])
            if self.s.level < 3:
                proto = self.pick(["udp", "tcp", "icmp"])
            words.append(f"-p {proto}" if self.chance(0.93) else f"! -p {proto}")
            if words[-1].startswith("!"):
                proto = ""
            elif self.chance(0.6):
                words.append(self._proto(proto))
        makers = (
            list(MATCHES.values()) if self.s.level > 2 else [MATCHES["conntrack"], MATCHES["mark"], MATCHES["length"]]
        )
        for _ in range(self.rnd.choice([0, 0, 1, 1, 1, 2, 3])):
            words.append(self.pick(makers)(self, table, base, proto))
        target = self._target(table, base, proto, users, bare=not any(words))
        return f"-t {table} -A {chain} {' '.join(w for w in [*words, target] if w)}"

    def _address(self, flag: str) -> str:
        address = self.pick(self.addresses)
        text = self.pick([address, address, f"{address}/24", f"{address}/16", f"{address}/8", f"{address}/255.255.0.0"])
        return f"{'! ' if self.chance(0.15) else ''}{flag} {text}"

    def _device(self, flag: str) -> str:
        name = self.pick([*self.devices, *self.devices, "lo", "eth+", "et+"])
        return f"{'! ' if self.chance(0.15) else ''}{flag} {name}"

    def _no(self, p: float = 0.2) -> str:
        return "! " if self.chance(p) else ""

    def _port(self) -> str:
        return str(self.pick([53, 80, 443, 8080, 4000, "1:1023", "1024:", "4000:5400", ":100"]))

    def _proto(self, proto: str) -> str:
        if proto in ("tcp", "udp", "udplite", "sctp"):
            words = [f"-m {proto}"] if proto in ("sctp",) else []
            if self.chance(0.6):
                words.append(f"{self._no()}--dport {self._port()}")
            if self.chance(0.3):
                words.append(f"{self._no()}--sport {self._port()}")
            if proto == "tcp" and self.chance(0.3):
                words.append(
                    self.pick(
                        ["--syn", "! --syn", "--tcp-flags SYN,RST RST", "--tcp-flags ALL SYN,ACK", "--tcp-option 2"]
                    )
                )
            if proto == "udplite":
                return ""
            return " ".join(words)
        if proto == "icmp":
            return f"{self._no()}--icmp-type {self.pick(['8', '0', '3', '3/1', '3/3', '11', 'any', '13'])}"
        if proto == "esp":
            return f"-m esp {self._no()}--espspi {self.pick(['1', '100:500', '1000'])}"
        return ""

    # ------------------------------------------------------------------------------------------ targets

    def _target(self, table: str, chain: str, proto: str, users: list[str], bare: bool) -> str:
        if users and self.chance(0.25):
            return f"{'-g' if self.chance(0.2) else '-j'} {self.pick(users)}"
        if self.s.level > 2 and self.chance(0.08):
            return ""
        if table == "nat":
            return self._nat(chain, proto)
        if table == "raw" and self.chance(0.6):
            return self._ct(bare)
        if table == "filter" and self.s.level < 3:
            return self.pick(["-j ACCEPT", "-j DROP", "-j ACCEPT"])
        kind = self.rnd.random()
        if table == "filter" and kind < 0.12:
            return self._reject(proto)
        if kind < 0.2 and not bare:
            return "-j DROP"
        if kind < 0.3:
            return self.pick(["-j ACCEPT", "-j RETURN"])
        return self._effect(table, chain, proto)

    def _reject(self, proto: str) -> str:
        kinds = ["icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable",
                 "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited"]  # fmt: skip
        if proto == "tcp" and self.chance(0.5):
            return "-j REJECT --reject-with tcp-reset"
        return "-j REJECT" if self.chance(0.3) else f"-j REJECT --reject-with {self.pick(kinds)}"

    def _ct(self, bare: bool) -> str:
        words = ["-j CT --zone 1", "-j CT --zone 2", "-j CT --zone-orig 1", "-j CT --zone-reply 2", "-j CT --notrack",
                 "-j NOTRACK",                 "-j CT --ctevents new,destroy"]  # fmt: skip
        return "-j CT --zone 1" if bare and self.chance(0.5) else self.pick(words)

    def _effect(self, table: str, chain: str, proto: str) -> str:
        mark = self.pick(["1", "2", "7", "0x10/0xf0", "0x11/0xff"])
        menu = [
            f"-j MARK --set-mark {mark}", f"-j MARK --set-xmark {mark}", f"-j MARK --or-mark {self.pick(['1', '0x10'])}",
            f"-j MARK --and-mark {self.pick(['0xf0', '0xfe'])}", f"-j MARK --xor-mark {self.pick(['1', '3'])}",
            f"-j CONNMARK --set-mark {mark}", "-j CONNMARK --save-mark", "-j CONNMARK --restore-mark",
            "-j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xf", "-j CONNMARK --set-xmark 0x3/0x7",
            "-j LOG --log-prefix nt", "-j NFLOG --nflog-group 3", "-j AUDIT --type accept", "-j ACCEPT", "-j RETURN",
        ]  # fmt: skip
        if table == "mangle":
            menu += [
                "-j TOS --set-tos 0x10", "-j TOS --set-tos 0x08/0x3f", "-j TOS --or-tos 0x04", "-j DSCP --set-dscp 10",
                "-j DSCP --set-dscp-class EF", "-j TTL --ttl-set 33", "-j TTL --ttl-dec 1", "-j TTL --ttl-inc 2",
                "-j CHECKSUM --checksum-fill", "-j MARK --set-mark 1", "-j MARK --set-mark 2",
                f"-j HMARK --hmark-tuple src,dst --hmark-mod 10 --hmark-offset 100 --hmark-rnd {self.pick([1, 77])}",
            ]  # fmt: skip
            if proto == "tcp":
                menu += ["-j ECN --ecn-tcp-remove", "-j TCPOPTSTRIP --strip-options 3,8"]
            if chain in ("FORWARD", "OUTPUT", "POSTROUTING"):
                menu.append("-j CLASSIFY --set-class 1:2")
            if chain == "PREROUTING" and proto in ("tcp", "udp"):
                menu.append(f"-j TPROXY --on-port {self.pick([53, 80, 9])} --tproxy-mark {self.pick(['1', '0x1/0x1'])}")
            if chain in ("PREROUTING", "FORWARD", "POSTROUTING") and self.s.level > 6 and self.chance(0.3):
                menu += [f"-j TEE --gateway {self.pick(self.around)}"] * 3
        if proto == "tcp" and table == "mangle":
            menu += [f"--tcp-flags SYN,RST SYN -j TCPMSS {self.pick(['--set-mss 1000', '--clamp-mss-to-pmtu'])}"] * 2
        if table == "raw":
            menu.append("-j TRACE")
        sets = [n for n, k in self.set_names if k == "hash:ip"]
        if sets:
            menu += [
                f"-j SET --add-set {self.pick(sets)} src",
                f"-j SET --del-set {self.pick(sets)} dst --exist".replace(" --exist", ""),
            ]
        if self.s.level > 5 and self.chance(0.1):
            menu += ["-j NFQUEUE --queue-num 5", "-j NFQUEUE --queue-num 5 --queue-bypass"]
        return self.pick(menu)

    def _nat(self, chain: str, proto: str) -> str:
        address = self.pick([*self.around, *self.own, *self.remotes[:3]])
        with_port = proto in ("tcp", "udp")
        port = self.pick([":8080", ":80", ":2000-2010", ":53"]) if with_port and self.chance(0.5) else ""
        if self.chance(0.1):
            return "-j ACCEPT"
        extra = self.pick(["", "", "", "", " --random", " --persistent", " --random-fully"]) if self.s.level > 2 else ""
        span = f"-{bump(address)}" if self.s.level > 2 and self.chance(0.15) else ""
        if chain in ("PREROUTING", "OUTPUT", ""):
            kind = self.rnd.random()
            if kind < 0.65:
                if extra == " --random-fully":
                    extra = ""
                return f"-j DNAT --to-destination {address}{span}{port}{extra}"
            if kind < 0.85:
                return (
                    f"-j REDIRECT --to-ports {self.pick(['80', '53', '8080', '2000-2010'])}"
                    if with_port
                    else "-j REDIRECT"
                )
            return f"-j NETMAP --to {self.pick(self.around).rsplit('.', 1)[0]}.0/24"
        if chain == "INPUT":
            return f"-j SNAT --to-source {address}{span}{port}"
        kind = self.rnd.random()
        if kind < 0.45:
            ports = f" --to-ports {self.pick(['5000-5003', '1024-60000'])}" if with_port and self.chance(0.25) else ""
            return f"-j MASQUERADE{ports}{self.pick(['', '', ' --random'])}"
        if kind < 0.9:
            return f"-j SNAT --to-source {self.pick([address, self.pick(self.own)])}{'' if span else port}{extra}"
        return f"-j NETMAP --to {self.pick(self.own).rsplit('.', 1)[0]}.0/24"


def bump(address: str) -> str:
    """An address a few further on, for ranges."""
    head, _, tail = address.rpartition(".")
    return f"{head}.{min(int(tail) + 3, 255)}"


# ---------------------------------------------------------------------------------------------- matches

MATCHES = {}


def _match(name):
    def register(function):
        MATCHES[name] = function
        return function

    return register


@_match("conntrack")
def _conntrack(w, table, chain, proto):
    kind = w.rnd.random()
    if kind < 0.6:
        states = w.rnd.sample(
            ["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "SNAT", "DNAT"], w.rnd.randint(1, 3)
        )
        return f"-m conntrack {w._no()}--ctstate {','.join(states)}"
    return "-m conntrack " + w.pick([
        f"{w._no()}--ctstatus {w.pick(['NONE', 'SEEN_REPLY', 'ASSURED', 'CONFIRMED', 'EXPECTED'])}",
        f"{w._no()}--ctorigsrc {w.pick(w.addresses)}", f"{w._no()}--ctorigdst {w.pick(w.addresses)}/24",
        f"{w._no()}--ctreplsrc {w.pick(w.addresses)}/16", f"{w._no()}--ctrepldst {w.pick(w.addresses)}",
        f"--ctdir {w.pick(['ORIGINAL', 'REPLY'])}", f"{w._no()}--ctproto {w.pick(['udp', 'tcp', '1'])}",
        f"{w._no()}--ctorigdstport {w.pick(['53', '80', '1:1000'])}", f"{w._no()}--ctreplsrcport {w.pick(['53', '80'])}",
        "--ctexpire 1:1000",
    ])  # fmt: skip


@_match("state")
def _state(w, table, chain, proto):
    return f"-m state {w._no()}--state {w.pick(['NEW', 'ESTABLISHED', 'RELATED,ESTABLISHED', 'INVALID', 'UNTRACKED'])}"


@_match("mark")
def _mark(w, table, chain, proto):
    return f"-m mark {w._no()}--mark {w.pick(['1', '2', '7', '0x10/0xf0', '0', '0x1/0x1'])}"


@_match("connmark")
def _connmark(w, table, chain, proto):
    return f"-m connmark {w._no()}--mark {w.pick(['1', '2', '0', '0x10/0xf0'])}"


@_match("connbytes")
def _connbytes(w, table, chain, proto):
    direction, mode = w.pick(["original", "reply", "both"]), w.pick(["packets", "bytes", "avgpkt"])
    span = w.pick(["2", "1:3", "0:1"]) if mode == "packets" else w.pick(["50:200", "100", "0:60"])
    return f"-m connbytes {w._no()}--connbytes {span} --connbytes-dir {direction} --connbytes-mode {mode}"


@_match("connlimit")
def _connlimit(w, table, chain, proto):
    way = w.pick(["--connlimit-above 1", "--connlimit-upto 2", "--connlimit-above 2"])
    return f"-m connlimit {way} --connlimit-mask {w.pick([32, 24, 0])} {w.pick(['--connlimit-saddr', '--connlimit-daddr'])}"


@_match("owner")
def _owner(w, table, chain, proto):
    if chain not in ("OUTPUT", "POSTROUTING"):
        return ""
    ways = ["--uid-owner 1000", "--uid-owner 0", "--uid-owner 1000-1001", "--gid-owner 1000", "--socket-exists"]
    return f"-m owner {w._no()}{w.pick(ways)}"


@_match("addrtype")
def _addrtype(w, table, chain, proto):
    kind = w.pick(
        ["LOCAL", "UNICAST", "BROADCAST", "MULTICAST", "UNREACHABLE", "PROHIBIT", "BLACKHOLE", "LOCAL,UNICAST"]
    )
    limit = ""
    if chain in ("PREROUTING", "INPUT", "FORWARD") and w.chance(0.15):
        limit = " --limit-iface-in"
    return f"-m addrtype {w._no()}--{w.pick(['src', 'dst'])}-type {kind}{limit}"


@_match("set")
def _set(w, table, chain, proto):
    if not w.set_names:
        return ""
    name, kind = w.pick(w.set_names)
    dims = 1 if kind in ("list:set", "bitmap:ip", "bitmap:port") else len(kind.split(","))
    flags = ",".join(w.pick(["src", "dst"]) for _ in range(dims))
    if "iface" in kind and chain not in HAS_IN:
        return ""
    if "iface" in kind:
        flags = flags.rpartition(",")[0] + ",src"
    return f"-m set {w._no()}--match-set {name} {flags}{w.pick(['', '', '', ' --return-nomatch'])}"


@_match("mac")
def _mac(w, table, chain, proto):
    if chain not in ("PREROUTING", "INPUT", "FORWARD"):
        return ""
    return f"-m mac {w._no()}--mac-source {w.pick(['02:ed:00:00:00:01', '02:ed:00:00:00:02'])}"


@_match("limit")
def _limit(w, table, chain, proto):
    return f"-m limit --limit {w.pick(['1/day', '1/hour'])} --limit-burst {w.pick([1, 2, 5])}"


@_match("hashlimit")
def _hashlimit(w, table, chain, proto):
    w.number += 1
    modes = ["srcip", "dstip", "srcip,dstip"] + (["dstport", "srcip,srcport"] if proto in ("tcp", "udp") else [])
    way = w.pick(["--hashlimit-upto 1/hour", "--hashlimit-above 1/hour", "--hashlimit-upto 1/day"])
    mask = w.pick(["", "", " --hashlimit-srcmask 24"])
    mode = f"--hashlimit-mode {w.pick(modes)}{mask}"
    return f"-m hashlimit {way} --hashlimit-burst {w.pick([1, 2, 4])} {mode} --hashlimit-name h{w.number}"


@_match("recent")
def _recent(w, table, chain, proto):
    name, side = w.pick(["ra", "rb"]), w.pick(["--rsource", "--rsource", "--rdest"])
    return f"-m recent --name {name} {side} " + w.pick([
        "--set", "--set", f"{w._no()}--rcheck", f"{w._no()}--update --seconds 600", "--rcheck --hitcount 2", "--remove",
        "--update --hitcount 3",
    ])  # fmt: skip


@_match("statistic")
def _statistic(w, table, chain, proto):
    every = w.pick([2, 3, 4])
    return f"-m statistic --mode nth {w._no()}--every {every} --packet {w.rnd.randrange(every)}"


@_match("comment")
def _comment(w, table, chain, proto):
    return f'-m comment --comment "{w.pick(["plain", "two words", "--dport 80", "a ! b"])}"'


@_match("iprange")
def _iprange(w, table, chain, proto):
    address = w.pick(w.addresses)
    return f"-m iprange {w._no()}--{w.pick(['src', 'dst'])}-range {address}-{bump(address)}"


@_match("string")
def _string(w, table, chain, proto):
    algo, text = w.pick(["bm", "kmp"]), w.pick(["ABCD", "EFG", "ZZZ"])
    span = w.pick(["", "", " --from 30", " --to 40"])
    return f"-m string {w._no()}--string {text} --algo {algo}{span}"


@_match("length")
def _length(w, table, chain, proto):
    return f"-m length {w._no()}--length {w.pick(['28', '40', '60', '0:50', '51:', '100:700'])}"


@_match("ttl")
def _ttl(w, table, chain, proto):
    return "-m ttl " + w.pick(
        [f"{w._no()}--ttl-eq {w.pick([63, 64, 1])}", f"--ttl-lt {w.pick([64, 5])}", f"--ttl-gt {w.pick([63, 2])}"]
    )


@_match("tos")
def _tos(w, table, chain, proto):
    return f"-m tos {w._no()}--tos {w.pick(['0x10', '0x08/0x3f', '0', '0xb8'])}"


@_match("dscp")
def _dscp(w, table, chain, proto):
    return f"-m dscp {w._no()}{w.pick(['--dscp 46', '--dscp 0', '--dscp-class EF', '--dscp 4'])}"


@_match("ecn")
def _ecn(w, table, chain, proto):
    return (
        f"-m ecn {w._no()}--ecn-tcp-{w.pick(['ece', 'cwr'])}"
        if proto == "tcp"
        else f"-m ecn {w._no()}--ecn-ip-ect {w.pick([0, 1, 2])}"
    )


@_match("u32")
def _u32(w, table, chain, proto):
    test = w.pick(
        [
            "0>>24&0xf=5",
            "6&0xff=17",
            "6&0xff=1,6",
            "0&0xffff=28:60",
            "0>>22&0x3c@0>>16=4000",
            "8>>24=60:64",
            "12=0x08080808",
        ]
    )
    return f'-m u32 {w._no()}--u32 "{test}"'


@_match("bpf")
def _bpf(w, table, chain, proto):
    code = w.pick(
        [
            "4,48 0 0 9,21 0 1 17,6 0 0 1,6 0 0 0",
            "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0",
            "4,40 0 0 2,37 0 1 50,6 0 0 1,6 0 0 0",
        ]
    )
    return f'-m bpf --bytecode "{code}"'


@_match("rpfilter")
def _rpfilter(w, table, chain, proto):
    if chain != "PREROUTING" or table not in ("raw", "mangle"):
        return ""
    return f"-m rpfilter{w.pick(['', ' --loose', ' --validmark', ' --accept-local'])}{w.pick(['', ' --invert'])}"


@_match("physdev")
def _physdev(w, table, chain, proto):
    if w.chance(0.4):
        return f"-m physdev {w._no()}--physdev-in port{w.pick('12345')}"
    return f"-m physdev {w._no()}--physdev-is-{w.pick(['in', 'bridged'])}"


@_match("tcpmss")
def _tcpmss(w, table, chain, proto):
    return (
        f"--tcp-flags SYN,RST SYN -m tcpmss {w._no()}--mss {w.pick(['1460', '1000:1450', '536'])}"
        if proto == "tcp"
        else ""
    )


@_match("time")
def _time(w, table, chain, proto):
    return "-m time " + w.pick(["--datestart 2020-01-01T00:00:00 --datestop 2037-01-01T00:00:00",
                                "--datestop 2021-01-01T00:00:00",
                                "--monthdays 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                                "--weekdays Mon,Tue,Wed,Thu,Fri,Sat,Sun"])  # fmt: skip


@_match("pkttype")
def _pkttype(w, table, chain, proto):
    return f"-m pkttype {w._no()}--pkt-type {w.pick(['unicast', 'broadcast', 'multicast'])}"


@_match("devgroup")
def _devgroup(w, table, chain, proto):
    if chain in HAS_IN:
        return f"-m devgroup {w._no()}--src-group {w.pick(['0', '1'])}"
    return f"-m devgroup {w._no()}--dst-group {w.pick(['0', '0x1'])}" if chain in HAS_OUT else ""


@_match("helper")
def _helper(w, table, chain, proto):
    return f"-m helper {w._no()}--helper {w.pick(['ftp', 'tftp'])}"


@_match("quota")
def _quota(w, table, chain, proto):
    return f"-m quota {w._no()}--quota {w.pick([100, 300, 10000])}"


@_match("realm")
def _realm(w, table, chain, proto):
    return (
        f"-m realm {w._no()}--realm {w.pick(['1', '2', '0', '0x7/0x7'])}"
        if chain in ("INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
        else ""
    )


@_match("policy")
def _policy(w, table, chain, proto):
    if chain in ("PREROUTING", "INPUT", "FORWARD"):
        return "-m policy --dir in --pol none"
    return "-m policy --dir out --pol none" if chain in ("OUTPUT", "POSTROUTING") else ""


@_match("cluster")
def _cluster(w, table, chain, proto):
    node = f"--cluster-local-node {w.pick([1, 2])}"
    return f"-m cluster {w._no()}--cluster-total-nodes 2 {node} --cluster-hash-seed {w.pick([1, 99])}"


@_match("socket")
def _socket(w, table, chain, proto):
    return f"-m socket{w.pick(['', ' --nowildcard', ' --transparent'])}" if chain in ("PREROUTING", "INPUT") else ""


@_match("multiport")
def _multiport(w, table, chain, proto):
    if proto not in ("tcp", "udp", "udplite", "sctp"):
        return ""
    ports = w.pick(["53,80", "80,443,8080:8090", "1:1000,4000"])
    return f"-m multiport {w._no()}--{w.pick(['ports', 'dports', 'sports'])} {ports}"


@_match("nfacct")
def _nfacct(w, table, chain, proto):
    return ""  # needs an object made by nfacct(8)
