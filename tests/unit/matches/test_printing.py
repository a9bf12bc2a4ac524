"""Reading an option and printing it gives what iptables-save 1.8.9 prints (both backends, observed)."""

from __future__ import annotations

import pytest
from nattrace.sim.errors import RuleError
from nattrace.sim.rules import registry
from vocabulary import printed

CHAIN = {"owner": "OUTPUT", "cgroup": "OUTPUT", "rpfilter": "PREROUTING", "devgroup": "FORWARD", "physdev": "FORWARD"}


@pytest.mark.parametrize("name", registry.match_names())
def test_documented_example_prints_back(name):
    info = registry.find_match(name)
    wanted = info.doc[info.doc.index("-m ") :]
    assert printed(info.doc, family=info.families[0], chain=CHAIN.get(name, "INPUT")) == wanted


NORMALISED = [
    ("-p tcp -m tcp --dport http --sport 1024:", "-m tcp --sport 1024:65535 --dport 80"),
    ("-p tcp -m tcp --sport :", "-m tcp"),
    ("-p tcp -m tcp ! --syn", "-m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN"),
    ("-p tcp -m tcp --tcp-flags ALL NONE", "-m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE"),
    ("-p tcp -m tcp --tcp-option 5 --dport 1", "-m tcp --dport 1 --tcp-option 5"),
    ("-p udp -m udp --dport 4:4", "-m udp --dport 4"),
    ("-p icmp -m icmp --icmp-type echo-req", "-m icmp --icmp-type 8"),
    ("-p icmp -m icmp --icmp-type 255", "-m icmp --icmp-type any"),
    ("-p icmp -m icmp --icmp-type host-unreachable", "-m icmp --icmp-type 3/1"),
    ("-m mark --mark 010", "-m mark --mark 0x8"),
    ("-m mark --mark 1/0", "-m mark --mark 0x1/0x0"),
    ("-m conntrack --ctstate SNAT,NEW,INVALID", "-m conntrack --ctstate INVALID,NEW,SNAT"),
    ("-m conntrack --ctproto udp --ctexpire 5:", "-m conntrack --ctproto 17 --ctexpire 5:4294967295"),
    ("-m conntrack --ctorigsrc 10.1.2.3/8", "-m conntrack --ctorigsrc 10.1.2.3/8"),
    ("-m owner --uid-owner alice", "-m owner --uid-owner 1000"),
    ("-m limit --limit 7/minute", "-m limit --limit 7/min"),
    ("-m limit", "-m limit --limit 3/hour"),
    ("-m tos --tos Min-", None),
    ("-m tos --tos minimize-cost", "-m tos --tos 0x02/0x3f"),
    ("-m dscp --dscp-class af41", "-m dscp --dscp 0x22"),
    ("-m quota --quota 0x10", "-m quota --quota 16"),
    ("-m comment --comment a-b_c", "-m comment --comment a-b_c"),
    ('-m comment --comment "it\'s"', '-m comment --comment "it\\\'s"'),
    ("-m recent --set", "-m recent --set --name DEFAULT --mask 255.255.255.255 --rsource"),
    ("-m statistic --mode random --probability 0.33333333349", "-m statistic --mode random --probability 0.33333333349"),
    ("-m string --hex-string '|0a 0b|' --algo bm", '-m string --hex-string "|0a0b|" --algo bm'),
    ("-m string --hex-string '|41|b' --algo bm --to 9", '-m string --string "Ab" --algo bm --to 9'),
    ("-m u32 --u32 '6 & 0xFF = 1 && 0 >> 22 & 0x3C @ 0 = 0, 3:10'",
     '-m u32 --u32 "0x6&0xff=0x1&&0x0>>0x16&0x3c@0x0=0x0,0x3:0xa"'),
    ("-m time --timestart 10:00 --timestop 9:30 --contiguous",
     "-m time --timestart 10:00:00 --timestop 09:30:00 --datestop 2038-01-19T03:14:07 --contiguous"),
    ("-m time ! --weekdays Mo,7", "-m time --weekdays Tue,Wed,Thu,Fri,Sat --datestop 2038-01-19T03:14:07"),
    ("-m hashlimit --hashlimit 7/hour --hashlimit-name a --hashlimit-mode dstport,srcip",
     "-m hashlimit --hashlimit-upto 7/hour --hashlimit-burst 5 --hashlimit-mode srcip,dstport --hashlimit-name a"),
    ("-m hashlimit --hashlimit-upto 4kb/s --hashlimit-burst 400kb --hashlimit-name a",
     "-m hashlimit --hashlimit-upto 4kb/s --hashlimit-burst 400kb --hashlimit-name a"),
    ("-m hashlimit --hashlimit-above 123456b/s --hashlimit-name a",
     "-m hashlimit --hashlimit-above 123456b/s --hashlimit-name a"),
    ("-m hashlimit --hashlimit-upto 40/min --hashlimit-rate-match --hashlimit-name a",
     "-m hashlimit --hashlimit-upto 40/sec --hashlimit-burst 5 --hashlimit-name a --hashlimit-htable-expire 60000"
     " --hashlimit-rate-match --hashlimit-rate-interval 60"),
    ("-m connlimit ! --connlimit-above 3", "-m connlimit --connlimit-upto 3 --connlimit-mask 32 --connlimit-saddr"),
    ("-m connbytes --connbytes : --connbytes-mode packets --connbytes-dir both",
     "-m connbytes --connbytes 0 --connbytes-mode packets --connbytes-dir both"),
    ("-m cluster --cluster-total-nodes 2 --cluster-local-node 2 --cluster-hash-seed 1",
     "-m cluster --cluster-local-nodemask 0x00000002 --cluster-total-nodes 2 --cluster-hash-seed 0x00000001"),
    ("-p sctp -m sctp --chunk-types any DATA:BeI,PAD", "-m sctp --chunk-types any DATA:IBe,PAD"),
    ("-p esp -m esp ! --espspi :", "-m esp"),
    ("-m length --length 0x10:", "-m length --length 16:65535"),
    ("-m mac --mac-source aa:BB:0c:00:00:01", "-m mac --mac-source aa:bb:0c:00:00:01"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), [row for row in NORMALISED if row[1]], ids=lambda v: v)
def test_spelling_is_normalised(text, wanted):
    chain = "OUTPUT" if "owner" in text else "INPUT"
    assert printed(text, chain=chain) == wanted
    if "comment" not in text:  # shlex leaves a backslash before a quote, iptables' reader does not
        proto = next((f"-p {p} " for p in ("sctp", "tcp", "udp", "icmp", "esp") if f"-m {p}" in text), "")
        assert printed(proto + wanted, chain=chain) == wanted


REFUSED = [
    "-m tcp --dport 80", "! -p tcp -m tcp --dport 80", "-p tcp -m tcp --dport 4:3", "-p tcp -m tcp --dport 65536",
    "-p tcp -m tcp --tcp-flags SYN,FOO SYN", "-m udp --dport 5", "-p icmp -m icmp", "-p icmp -m icmp --icmp-type nonsense",
    "-p tcp -m multiport", "-p 99 -m multiport --ports 5", "-p tcp -m multiport --ports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16",
    "-p udp -m multiport --dports 5:5", "-m conntrack", "-m conntrack --ctstate wrong", "-m state", "-m mark",
    "-m mark --mark -1", "-m owner", "-m owner --uid-owner nobody-here", "-m limit --limit 1/year", "-m comment",
    "-m statistic --mode nth --every 5", "-m statistic --mode nth --every 5 --packet 5",
    "-m statistic --mode random --probability 1.1", "-m string --algo bm", "-m string --string a --algo wrong",
    "-m string --hex-string '|0|' --algo bm", "-m u32 --u32 '0x0'", "-m bpf --bytecode '2,6 0 0 1'",
    "-m bpf --bytecode '1,5 0 0 5'", "-m ttl", "-m tos --tos wrong", "-m dscp --dscp 0x40", "-m length --length 0:65536",
    "-m hashlimit --hashlimit-name a", "-m hashlimit --hashlimit-upto 1/sec", "-m recent --set --rttl",
    "-m recent --rcheck --hitcount 65536", "-m addrtype", "-m addrtype --src-type LOCAL --limit-iface-in --limit-iface-out",
    "-m connlimit", "-m connlimit --connlimit-above 1 --connlimit-saddr --connlimit-daddr", "-m cluster --cluster-total-nodes 3",
    "-m connbytes --connbytes 9:1 --connbytes-mode bytes --connbytes-dir both", "-m policy --dir in --pol ipsec --strict",
    "-m set --match-set foo", "-m mac --mac-source 42:01:02:03:04", "-m cgroup --cgroup 1 --path /", "-m quota --quota -1",
    "-m ecn --ecn-tcp-cwr", "-m ecn --ecn-ip-ect 4", "-m pkttype --pkt-type wrong", "-m realm --realm name", "-m helper",
    "-m devgroup --dst-group 1",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_iptables_refuses_is_an_error(text):
    with pytest.raises(RuleError):
        printed(text)
