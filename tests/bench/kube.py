"""iptables-save as kube-proxy leaves it on a node: KUBE-SERVICES → KUBE-SVC-x (statistic) → KUBE-SEP-x (DNAT).

python tests/bench/kube.py 50000 > kube.txt
"""

from __future__ import annotations

import random
import string
import sys

_LETTERS = string.ascii_uppercase + "234567"
_CIDR = "10.244.0.0/16"
_NAMES = ("api", "web", "auth", "cart", "search", "db", "cache", "queue", "mail", "metrics", "ingress", "worker")

_FILTER = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""

_NAT_HEAD = """-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
"""


def _name(rng: random.Random, kind: str) -> str:
    return kind + "".join(rng.choices(_LETTERS, k=16))


def _ip(base: int, number: int) -> str:
    value = base + number
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def kube_save(rules: int, seed: int = 1) -> str:
    """About ``rules`` rules (never fewer than the fixed ones); the same for the same arguments."""
    rng = random.Random(seed)
    chains: list[str] = ["KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-SERVICES"]
    services: list[str] = []
    rest: list[str] = []
    count = _FILTER.count("\n-A ") + _NAT_HEAD.count("-A ") + 1
    number = pod = 0
    while count < rules:
        number += 1
        name = f"ns-{rng.randrange(40)}/{rng.choice(_NAMES)}-{number}:{rng.choice(('http', 'https', 'grpc'))}"
        ip, port, proto = (
            _ip(0x0A600000, number),
            rng.choice((80, 443, 8080, 9090, 5432)),
            rng.choice(("tcp", "tcp", "udp")),
        )
        svc = _name(rng, "KUBE-SVC-")
        chains.append(svc)
        head = f'-d {ip}/32 -p {proto} -m comment --comment "{name} cluster IP" -m {proto} --dport {port}'
        services.append(f"-A KUBE-SERVICES {head} -j {svc}")
        rest.append(f"-A {svc} ! -s {_CIDR} {head} -j KUBE-MARK-MASQ")
        endpoints = rng.choice((1, 2, 3, 3, 4, 6))
        for left in range(endpoints, 0, -1):
            pod += 1
            pod_ip, sep = _ip(0x0AF40000, pod), _name(rng, "KUBE-SEP-")
            chains.append(sep)
            share = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
            rest.append(f'-A {svc} -m comment --comment "{name} -> {pod_ip}:{port}" {share}-j {sep}')
            rest.append(f'-A {sep} -s {pod_ip}/32 -m comment --comment "{name}" -j KUBE-MARK-MASQ')
            dnat = f"-m {proto} -j DNAT --to-destination {pod_ip}:{port}"
            rest.append(f'-A {sep} -p {proto} -m comment --comment "{name}" {dnat}')
        count += 2 + 3 * endpoints
    last = (
        '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
        " -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
    )
    lines = [":PREROUTING ACCEPT [0:0]", ":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":POSTROUTING ACCEPT [0:0]"]
    lines += [f":{chain} - [0:0]" for chain in sorted(chains)]
    nat = "\n".join(lines) + "\n" + _NAT_HEAD + "\n".join([*services, last, *sorted(rest)])
    return f"{_FILTER}*nat\n{nat}\nCOMMIT\n"


if __name__ == "__main__":
    sys.stdout.write(kube_save(int(sys.argv[1]) if len(sys.argv) > 1 else 50000))
