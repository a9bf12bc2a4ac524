"""sysctl, sockets, users, hosts, nft, what is only named, meta."""

from __future__ import annotations

import pytest
from nattrace.sim.errors import InputError, SnapshotError
from nattrace.sim.model.addr import AF_INET, AF_INET6, parse_addr
from nattrace.sim.snapshot import nft
from nattrace.sim.snapshot.problems import Problems
from nattrace.sim.snapshot.sysctl import dotted


@pytest.mark.parametrize(
    ("written", "name"),
    (
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/conf/eth0.1/rp_filter", "net.ipv4.conf.eth0/1.rp_filter"),
        ("net.ipv4.conf.eth0/1.rp_filter", "net.ipv4.conf.eth0/1.rp_filter"),
        ("/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"),
    ),
)
def test_both_notations_of_sysctl(written, name):
    assert dotted(written) == name


def test_sysctl_lines(host):
    found = host(
        sysctl__txt='sysctl: reading key "net.ipv6.conf.all.stable_secret"\n# x\nnet.ipv4.ip_forward = 1\nkernel.tainted =\n'
    )
    assert found.sysctl["net.ipv4.ip_forward"].value == "1" and found.sysctl["kernel.tainted"].value == ""
    assert str(found.sysctl["net.ipv4.ip_forward"].where) == "sysctl.txt:3"


@pytest.mark.parametrize("line", ("net.ipv4.ip_forward = yes", "net.ipv4.conf.all.rp_filter =", "net.ipv4.ip_forward"))
def test_a_setting_that_is_no_setting(world, line):
    with pytest.raises(SnapshotError, match=r"sysctl\.txt:2: "):
        world({"sysctl.txt": f"net.ipv4.icmp_ratelimit = 1000\n{line}\n"})


def endpoints(sockets):
    found = [(s.proto, s.family, s.local, s.lport, s.remote, s.rport, s.state, s.dev) for s in sockets]
    return sorted(found, key=str)


def test_sockets_of_the_kernel(host, data):
    sockets = host(sockets__txt=data("other/sockets.txt")).sockets
    by_port = {s.lport: s for s in sockets if s.state in ("LISTEN", "UNCONN")}
    assert (by_port[703].dev, by_port[703].transparent) == ("p0", True)
    assert (by_port[702].family, by_port[702].local, by_port[702].v6only) == (AF_INET6, None, False)
    assert by_port[701].v6only and by_port[700].local == parse_addr("127.0.0.1")[1]
    assert by_port[7004].uid == 65534
    assert dict(by_port[50].extra) == {"netid": "raw"} and by_port[50].proto == 50
    assert [s.rport for s in sockets if s.lport == 7007] == [7008]


def test_raw_sockets_by_raw_diag(host):
    """Where the kernel has raw_diag, ss has no name for them (iproute2 proto_name(), seen on 6.12)."""
    line = '??? UNCONN 0      0      0.0.0.0:112  0.0.0.0:* users:(("keepalived",pid=210,fd=15)) ino:4711 sk:1 <->'
    (found,) = host(sockets__txt=line).sockets
    assert (found.proto, dict(found.extra)) == (112, {"netid": "raw"})


def test_process_and_mark_of_a_socket(host):
    line = 'tcp LISTEN 0 128 [fe80::1]%eth0:22 [::]:* users:(("sshd",pid=7,fd=3)) uid:5 fwmark:0x55 v6only:1 <->'
    (found,) = host(sockets__txt=line).sockets
    assert (found.process, found.uid, found.mark, found.dev, found.lport) == ("sshd", 5, 0x55, "eth0", 22)


def test_less_detail_means_the_same_endpoints(host, data):
    full = endpoints(host(sockets__txt=data("other/sockets.txt")).sockets)
    assert endpoints(host(sockets__txt=data("other/sockets-plain.txt")).sockets) == full


def test_ss_with_its_heading_is_read_too(host, data):
    sockets = host(sockets__txt=data("other/ss-tna.txt")).sockets
    assert {s.proto for s in sockets} == {6} and len(sockets) == 8
    assert any(s.family == AF_INET6 and s.lport == 702 for s in sockets)


def test_no_file_is_not_no_socket(host):
    assert host(sysctl__txt="").sockets is None


def test_sockets_listed_as_none(host):
    assert host(sockets__txt="").sockets == ()


def test_users_groups_and_names(host, data):
    found = host(**{f"{n}__txt": data(f"other/{n}.txt") for n in ("passwd", "group", "hosts")})
    assert found.users == {"root": 0, "nobody": 65534} and found.groups == {"root": 0, "adm": 4}
    assert found.names["loopback"] == (AF_INET, 0x7F000001) and found.names["router"][0] == AF_INET6


def test_meta_names_the_host_and_its_kernel(host, data):
    found = host(meta__json=data("other/meta.json"))
    assert (found.name, found.kernel, found.captured_at) == ("box", (6, 1), 1795255200.0)


def test_what_is_seen_is_named(host, data):
    found = host(tc__txt=data("other/tc.txt"), xfrm__txt=data("other/xfrm.txt"))
    assert [(text, str(where)) for text, where in found.unmodelled] == [
        ("2 tc filters on eth0", "tc.txt:2"),
        ("1 IPsec (xfrm) policy", "xfrm.txt:1"),
    ]


def test_xdp_is_named(host):
    found = host(link__json='[{"ifindex":2,"ifname":"eth0","flags":["UP"],"xdp":{"mode":1}}]')
    assert found.links["eth0"].xdp and found.unmodelled[0][0] == "an XDP program on eth0"


SAVED = {"ip": frozenset({"raw", "filter", "nat"}), "ip6": None}


def ruleset(data, form):
    import json

    problems = Problems()
    if form == "json":
        found = nft.read_json(json.loads(data("other/nft.json")), "nft.json", problems)
    else:
        found = nft.read_text(data("other/nft.txt"), "nft.txt", problems)
    problems.finish()
    return found


@pytest.mark.parametrize("form", ("json", "txt"))
def test_tables_of_iptables_nft_count_once(data, form):
    found = nft.native(ruleset(data, form), SAVED)
    assert [(f.family, f.table, f.chain, f.hook, f.priority, f.policy, f.rules) for f in found.foreign] == [
        ("ip", "foo", "bar", 2, -5, "DROP", 1),
        ("inet", "foo2", "bar", 4, 100, "ACCEPT", 1),
    ]
    assert {f.why for f in found.foreign} == {"native nftables rules are not modelled"}


@pytest.mark.parametrize("form", ("json", "txt"))
def test_tables_that_only_nft_tells_of_name_the_missing_file(data, form):
    found = nft.native(ruleset(data, form), {"ip": None, "ip6": None})
    raw = next(f for f in found.foreign if f.table == "raw")
    assert "iptables-save.txt" in raw.why and "missing" in raw.why


def test_both_forms_of_nft_show_the_same_chains(data):
    one, two = (ruleset(data, form).chains for form in ("json", "txt"))
    assert [c[:8] for c in one] == [c[:8] for c in two]


@pytest.mark.parametrize(
    ("text", "family", "number"),
    (
        ("filter - 5", "ip", -5),
        ("srcnat + 10", "ip", 110),
        ("-5", "ip", -5),
        ("filter", "bridge", -200),
        ("mangle", "inet", -150),
    ),
)
def test_priorities_by_name(text, family, number):
    assert nft._priority(text, family) == number


def test_native_tables_that_iptables_save_cannot_print_are_noted(world):
    made = world({"iptables-save.txt": "# Table `nat' is incompatible, use 'nft' tool.\n", "sysctl.txt": ""})
    assert "table nat holds native nftables rules" in made.notes[0]


def test_rules_reach_the_host(host, data):
    tables = host(iptables_save__txt=data("other/iptables-save.txt")).tables
    assert {t.name for t in tables} == {"raw", "filter", "nat"} and {t.backend for t in tables} == {"iptables"}


RULES = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n"


@pytest.mark.parametrize(
    ("line", "backend"),
    (
        ("# Generated by iptables-save v1.8.9 (nf_tables) on Fri Nov 27 22:00:00 2026", "iptables"),
        ("# Generated by iptables-save v1.8.9 on Fri Nov 27 22:00:00 2026", "legacy"),
        ("# Generated by iptables-save v1.4.21 on Fri Nov 27 22:00:00 2026", "iptables"),
        ("# by hand", "iptables"),
    ),
)
def test_the_first_line_tells_the_backend(host, line, backend):
    """Before 1.8 there was one, and no program called iptables-legacy to type."""
    assert {t.backend for t in host(iptables_save__txt=f"{line}\n{RULES}").tables} == {backend}


def test_strict_reads_every_rule(tmp_path):
    from nattrace.sim.snapshot.load import load_world

    (tmp_path / "iptables-save.txt").write_text(
        "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -s 1.2.3.400 -j ACCEPT\nCOMMIT\n"
    )
    with pytest.raises(InputError, match=r"iptables-save\.txt:3"):
        load_world(tmp_path, strict=True)
