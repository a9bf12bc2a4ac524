"""Rule sets as programs write them: orchestrators, sidecars, resolvers, tunnels, firewall front ends."""

from __future__ import annotations

from . import Case, Op, again, error, host, ping, reply, tcp, udp

WORLD = ("default via 192.0.2.1",)


def filter_rules(*rules: str) -> tuple[str, ...]:
    return tuple(rule if rule.startswith("-t ") else f"-t filter {rule}" for rule in rules)


def kubernetes() -> list[Case]:
    """kube-proxy's chains: a service of two pods, one of the node itself, a node port, affinity by address."""
    pod, other, far = "10.244.1.2", "10.244.1.3", "10.244.2.9"
    nat = (
        "-N KUBE-SERVICES", "-N KUBE-NODEPORTS", "-N KUBE-POSTROUTING", "-N KUBE-MARK-MASQ", "-N KUBE-SVC-WEB", "-N KUBE-SEP-A",
        "-N KUBE-SEP-B", "-N KUBE-EXT-WEB", "-N KUBE-SVC-STICKY", "-N KUBE-SEP-C",
        "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES",
        "-A POSTROUTING -j KUBE-POSTROUTING",
        "-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-WEB",
        "-A KUBE-SERVICES -d 10.96.0.20/32 -p udp -m udp --dport 53 -j KUBE-SVC-STICKY",
        "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
        "-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-WEB",
        "-A KUBE-EXT-WEB -j KUBE-MARK-MASQ", "-A KUBE-EXT-WEB -j KUBE-SVC-WEB",
        "-A KUBE-SVC-WEB ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ",
        "-A KUBE-SVC-WEB -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-A", "-A KUBE-SVC-WEB -j KUBE-SEP-B",
        f"-A KUBE-SEP-A -s {pod}/32 -j KUBE-MARK-MASQ", f"-A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination {pod}:80",
        f"-A KUBE-SEP-B -s {far}/32 -j KUBE-MARK-MASQ", f"-A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination {far}:80",
        "-A KUBE-SVC-STICKY -m recent --name KUBE-SEP-C --rcheck --seconds 10800 --reap --mask 255.255.255.255 --rsource -j KUBE-SEP-C",
        "-A KUBE-SVC-STICKY -j KUBE-SEP-C",
        f"-A KUBE-SEP-C -p udp -m recent --name KUBE-SEP-C --set --mask 255.255.255.255 --rsource -j DNAT --to-destination {other}:53",
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN", "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    )  # fmt: skip
    filters = (
        "-N KUBE-FORWARD", "-N KUBE-FIREWALL", "-A INPUT -j KUBE-FIREWALL", "-A FORWARD -j KUBE-FORWARD", "-A OUTPUT -j KUBE-FIREWALL",
        "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
        "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-P FORWARD DROP", "-A FORWARD -s 10.244.0.0/16 -j ACCEPT", "-A FORWARD -d 10.244.0.0/16 -j ACCEPT",
    )  # fmt: skip
    rules = tuple(f"-t nat {r}" for r in nat) + filter_rules(*filters)
    bridged = host(
        {"cni0": "10.244.1.1/24", "eth0": "192.0.2.10/24"}, *rules, routes=(*WORLD, "10.244.2.0/24 via 192.0.2.11")
    )
    bridged["interfaces"]["cni0"]["bridge"] = True
    ends = {
        n: host({"eth0": f"{a}/24"}, routes=("default via 10.244.1.1",), listen=("tcp 80", "udp 53"))
        for n, a in (("pod", pod), ("other", other))
    }
    node = {"node": bridged, **ends}
    wires = {"cni": ["node:cni0", "pod:eth0", "other:eth0"]}
    routed = host(
        {"eth0": "192.0.2.10/24", "cali1": [], "cali2": []}, *rules,
        routes=(*WORLD, f"{pod} dev cali1 scope link", f"{other} dev cali2 scope link", "10.244.2.0/24 via 192.0.2.11", "blackhole 10.244.1.0/26"),
        sysctl={f"net.ipv4.conf.{d}.{k}": 1 for d in ("cali1", "cali2") for k in ("proxy_arp", "rp_filter", "route_localnet")},
    )  # fmt: skip
    guests = {
        n: host({"eth0": f"{a}/32"}, routes=("169.254.1.1 dev eth0 scope link", "default via 169.254.1.1"), listen=("tcp 80", "udp 53"))
        for n, a in (("pod", pod), ("other", other))
    }  # fmt: skip
    calico = {"a": ["node:cali1", "pod:eth0"], "b": ["node:cali2", "other:eth0"]}
    talk: list[Op] = [
        tcp("other", None, "10.96.0.10:80"), tcp("other", None, "10.96.0.10:80", sport=4100), udp("pod", None, "10.96.0.20:53"), reply(2), again(2),
        tcp("node:eth0", "198.51.100.7:1000", "192.0.2.10:30080"), reply(5), tcp("node:eth0", "198.51.100.7:1001", "192.0.2.10:30080"),
        tcp("node", None, "10.96.0.10:80"), udp("node", None, "10.96.0.20:53"), tcp("pod", None, "10.96.0.10:80"),
        udp("other", None, "10.96.0.20:53"), udp("pod", None, f"{other}:53"), ping("pod", None, "8.8.8.8"), udp("node:eth0", f"{far}:5", f"{pod}:53"), reply(14),
        tcp("node:eth0", "198.51.100.7:1002", "10.96.0.10:80"), udp("node:eth0", "198.51.100.7:5", "127.0.0.1:53"), udp("pod", None, "10.244.1.9:53"),
    ]  # fmt: skip
    return [
        Case("deployment kube-proxy and pods on a bridge", node, talk, segments=wires),
        Case("deployment kube-proxy and routed pods with proxy ARP", {"node": routed, **guests}, talk, segments=calico),
    ]


def sidecar() -> list[Case]:
    """Istio's redirection: all of a pod's traffic through a proxy of uid 1337."""
    nat = (
        "-N ISTIO_INBOUND", "-N ISTIO_REDIRECT", "-N ISTIO_IN_REDIRECT", "-N ISTIO_OUTPUT",
        "-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN", "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001",
        "-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006", "-A PREROUTING -p tcp -j ISTIO_INBOUND",
        "-A ISTIO_INBOUND -p tcp --dport 22 -j RETURN", "-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN", "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT",
        "-A OUTPUT -p tcp -j ISTIO_OUTPUT", "-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN",
        "-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
        "-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN", "-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN",
        "-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN", "-A ISTIO_OUTPUT -j ISTIO_REDIRECT",
    )  # fmt: skip
    rules = tuple(f"-t nat {r}" for r in nat)
    pod = {
        "pod": host(
            {"eth0": "10.1.0.5/24"},
            *rules,
            routes=("default via 10.1.0.1",),
            listen=("tcp 15001", "tcp 15006", "tcp 8080", "tcp 15090"),
        )
    }
    return [
        Case("deployment sidecar", pod, [
            tcp("pod", None, "10.96.0.1:80", uid=1000), tcp("pod", None, "10.96.0.1:80", uid=1337), tcp("pod", None, "10.1.0.5:8080", uid=1337), tcp("pod", None, "10.1.0.5:8080", uid=1000),
            tcp("pod", None, "127.0.0.1:8080", uid=1337), tcp("pod", None, "127.0.0.1:8080", uid=1000), tcp("pod", "127.0.0.6:4004", "10.1.0.5:8080", uid=1337), tcp("pod:eth0", "10.1.0.9:77", "10.1.0.5:8080"),
            reply(7), tcp("pod:eth0", "10.1.0.9:78", "10.1.0.5:15090"), tcp("pod:eth0", "10.1.0.9:79", "10.1.0.5:22"), udp("pod", None, "10.96.0.1:53", uid=1000), reply(11),
        ]),
    ]  # fmt: skip


def resolver() -> list[Case]:
    """Docker's embedded resolver in a container: 127.0.0.11 on drawn ports, and dnsmasq on 127.0.0.53."""
    rules = (
        "-t nat -N DOCKER_OUTPUT", "-t nat -N DOCKER_POSTROUTING", "-t nat -A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT",
        "-t nat -A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING",
        "-t nat -A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:41517",
        "-t nat -A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:57385",
        "-t nat -A DOCKER_POSTROUTING -s 127.0.0.11/32 -p tcp -m tcp --sport 41517 -j SNAT --to-source :53",
        "-t nat -A DOCKER_POSTROUTING -s 127.0.0.11/32 -p udp -m udp --sport 57385 -j SNAT --to-source :53",
    )  # fmt: skip
    box = {
        "c": host(
            {"eth0": "172.18.0.5/16"},
            *rules,
            routes=("default via 172.18.0.1",),
            listen=("udp 127.0.0.11:57385", "tcp 127.0.0.11:41517"),
        )
    }
    return [
        Case("deployment embedded resolver", box, [
            udp("c", None, "127.0.0.11:53"), reply(0), udp("c", "172.18.0.5:4001", "127.0.0.11:53"), reply(2), tcp("c", None, "127.0.0.11:53"), udp("c", None, "127.0.0.11:54"),
            udp("c", "127.0.0.11:57385", "172.18.0.5:4009"), udp("c:eth0", "172.18.0.9:4", "127.0.0.11:53"), udp("c", None, "8.8.8.8:53"), reply(8),
        ]),
    ]  # fmt: skip


def tunnel() -> list[Case]:
    """wg-quick's full tunnel: a mark, a table, suppressed default routes, and the guard against foreign packets."""
    rules = (
        "-t raw -A PREROUTING ! -i wg0 -d 10.9.0.2/32 -m addrtype ! --src-type LOCAL -j DROP",
        "-t mangle -A PREROUTING -p udp -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
        "-t mangle -A POSTROUTING -p udp -m mark --mark 0xca6c -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
    )
    peer = {
        "h": host({"eth0": "192.168.8.2/24", "wg0": "10.9.0.2/32"}, *rules,
                  routes=("default via 192.168.8.1", "default dev wg0 table 51820"),
                  policy=("pref 32764 lookup main suppress_prefixlength 0", "pref 32765 not fwmark 0xca6c lookup 51820"),
                  sysctl={"net.ipv4.conf.all.src_valid_mark": 1}, listen=("udp 51820",)),
    }  # fmt: skip
    return [
        Case("deployment full tunnel", peer, [
            udp("h", None, "8.8.8.8:53"), reply(0), udp("h", None, "192.168.8.77:53"), udp("h", None, "203.0.113.5:51820", mark=0xCA6C), reply(3), error(3), tcp("h", None, "8.8.8.8:443"),
            udp("h:eth0", "203.0.113.5:51820", "192.168.8.2:51820"), udp("h:eth0", "192.168.8.9:1", "10.9.0.2:22"), udp("h:wg0", "10.9.0.1:1", "10.9.0.2:51820"), ping("h", None, "1.1.1.1"), reply(10),
            udp("h:eth0", "8.8.8.8:53", "192.168.8.2:4000"), udp("h", "192.168.8.2:4010", "8.8.8.8:53"),
        ]),
    ]  # fmt: skip


def front_ends() -> list[Case]:
    """ufw's and OpenWrt's ways of writing rules, and libvirt's network."""
    ufw = (
        "-N ufw-before-input", "-N ufw-user-input", "-N ufw-after-input", "-N ufw-not-local", "-N ufw-logging-deny", "-N ufw-skip-to-policy-input", "-N ufw-user-limit", "-N ufw-user-limit-accept",
        "-P INPUT DROP", "-P FORWARD DROP", "-A INPUT -j ufw-before-input", "-A INPUT -j ufw-user-input", "-A INPUT -j ufw-after-input",
        "-A ufw-before-input -i lo -j ACCEPT", "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny",
        "-A ufw-before-input -m conntrack --ctstate INVALID -j DROP", "-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT", "-A ufw-before-input -p udp --sport 67 --dport 68 -j ACCEPT",
        "-A ufw-before-input -j ufw-not-local", "-A ufw-before-input -d 224.0.0.251/32 -p udp --dport 5353 -j ACCEPT", "-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN",
        "-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN", "-A ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN", "-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny", "-A ufw-not-local -j DROP",
        "-A ufw-user-input -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --set --name DEFAULT --mask 255.255.255.255 --rsource",
        "-A ufw-user-input -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --update --seconds 30 --hitcount 3 --name DEFAULT --mask 255.255.255.255 --rsource -j ufw-user-limit",
        "-A ufw-user-input -p tcp --dport 22 -j ufw-user-limit-accept", "-A ufw-user-input -p udp -m multiport --dports 5000:5010,53 -j ACCEPT",
        "-A ufw-user-limit -m limit --limit 3/min -j LOG --log-prefix \"[UFW LIMIT BLOCK] \"", "-A ufw-user-limit -j REJECT --reject-with icmp-port-unreachable", "-A ufw-user-limit-accept -j ACCEPT",
        "-A ufw-after-input -p udp --dport 137 -j ufw-skip-to-policy-input", "-A ufw-after-input -m addrtype --dst-type BROADCAST -j ufw-skip-to-policy-input", "-A ufw-skip-to-policy-input -j DROP",
        "-A ufw-logging-deny -m conntrack --ctstate INVALID -m limit --limit 3/min --limit-burst 10 -j RETURN", "-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix \"[UFW BLOCK] \"",
    )  # fmt: skip
    box = {
        "h": host({"eth0": "192.0.2.10/24"}, *filter_rules(*ufw), routes=WORLD, listen=("tcp 22", "udp 53", "udp 5005"))
    }
    ssh = [tcp("h:eth0", f"192.0.2.7:{n}", "192.0.2.10:22", seq=n) for n in (1, 2, 3, 4)]
    wrt = (
        "-N zone_lan_forward", "-N zone_wan_dest_ACCEPT", "-N reject", "-N forwarding_rule", "-P FORWARD DROP", "-A FORWARD -m comment --comment \"!fw3: Custom forwarding rule chain\" -j forwarding_rule",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A FORWARD -i br-lan -j zone_lan_forward", "-A FORWARD -j reject", "-A zone_lan_forward -j zone_wan_dest_ACCEPT",
        "-A zone_lan_forward -m conntrack --ctstate DNAT -j ACCEPT", "-A zone_wan_dest_ACCEPT -o wan -m conntrack --ctstate INVALID -j DROP", "-A zone_wan_dest_ACCEPT -o wan -j ACCEPT",
        "-A reject -p tcp -j REJECT --reject-with tcp-reset", "-A reject -j REJECT --reject-with icmp-port-unreachable",
        "-t nat -A PREROUTING -i wan -p tcp --dport 8443 -j DNAT --to-destination 192.168.1.20:443", "-t nat -A PREROUTING -s 192.168.1.0/24 -d 203.0.113.5/32 -p tcp --dport 8443 -j DNAT --to-destination 192.168.1.20:443",
        "-t nat -A POSTROUTING -s 192.168.1.0/24 -d 192.168.1.20/32 -p tcp --dport 443 -j SNAT --to-source 192.168.1.1", "-t nat -A POSTROUTING -o wan -j MASQUERADE",
        "-t mangle -A FORWARD -o wan -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    )  # fmt: skip
    router = host(
        {"br-lan": "192.168.1.1/24", "wan": "203.0.113.5/24"}, *filter_rules(*wrt), routes=("default via 203.0.113.1",)
    )
    router["interfaces"]["br-lan"]["bridge"] = True
    lan = {
        n: host({"eth0": f"192.168.1.{a}/24"}, routes=("default via 192.168.1.1",), listen=("tcp 443",))
        for n, a in (("nas", 20), ("tv", 30))
    }
    return [
        Case("deployment ufw", box, [
            *ssh, reply(0), again(0, flags="A", tcp_ack=1, tcp_seq=2), ping("h:eth0", "192.0.2.7", "192.0.2.10"), udp("h:eth0", "192.0.2.7:1", "192.0.2.10:53"), reply(7), udp("h:eth0", "192.0.2.7:1", "192.0.2.10:5005"),
            udp("h:eth0", "192.0.2.7:1", "192.0.2.10:137"), udp("h:eth0", "192.0.2.7:1", "192.0.2.255:137"), tcp("h:eth0", "192.0.2.7:9", "192.0.2.10:80"), tcp("h:eth0", "192.0.2.7:9", "192.0.2.10:80", "SA"), udp("h", None, "8.8.8.8:53"), reply(14), error(14),
            udp("h:eth0", "192.0.2.7:1", "8.8.8.8:53"),
        ]),
        Case("deployment OpenWrt", {"r": router, **lan}, [
            tcp("tv", None, "203.0.113.5:8443"), tcp("r:wan", "198.51.100.7:1", "203.0.113.5:8443"), reply(1), tcp("tv", None, "192.168.1.20:443"), tcp("nas", None, "203.0.113.5:8443"), udp("tv", None, "8.8.8.8:53"), reply(5),
            udp("r:wan", "198.51.100.7:1", "192.168.1.30:5"), tcp("r:wan", "198.51.100.7:1", "192.168.1.30:5"), tcp("nas", None, "198.51.100.7:80"), reply(9), ping("tv", None, "192.168.1.20"), udp("tv", None, "192.168.1.99:5"),
        ], segments={"lan": ["r:br-lan", "nas:eth0", "tv:eth0"]}),
    ]  # fmt: skip


CASES = [*kubernetes(), *sidecar(), *resolver(), *tunnel(), *front_ends()]
