"""(criterion, packet, answer) for matches that look at the packet alone; the kernel gives the same answers.

``hotdrop``: the match drops the packet. The rows hold for xt matches (iptables-legacy); where iptables-nft writes a
native nft expression and differs, see NATIVE. tests/differential/match_rows.py asks the kernel.
"""

from __future__ import annotations

from vocabulary import packet

SYN = packet("tcp", sport=40000, dport=443, tcp_flags=2, mss=1460, length=44, tos=0x28, ttl=61, ip_id=7)
PUSH = packet(
    "tcp", sport=22, dport=50000, tcp_flags=0xD8, payload=b"GET /x HTTP/1.1\r\n", length=57, tos=0x01, ip_id=9
)
DNS = packet("udp", sport=5353, dport=53, payload=b"\x00\x01abcdefgh", length=38, ip_id=7)
PING = packet("icmp", icmp_type=8, icmp_id=77, icmp_seq=3, length=84, ip_id=7)
UNREACH = packet("icmp", icmp_type=3, icmp_code=1, inner=packet("udp", sport=1, dport=2, ip_id=5), length=56, ip_id=7)
SHORT_TCP = packet("tcp", sport=1, dport=2, length=34, ip_id=7)
SHORT_UDP = packet("udp", sport=1, dport=2, length=24, ip_id=7)
FRAG_UDP = packet("udp", frag=80, payload=b"\x03\xe8\x00\x35" + bytes(12), length=36, ip_id=7)
FRAG_TCP = packet("tcp", frag=8, payload=b"\x03\xe8\x00\x35" + bytes(16), length=40, ip_id=7)
ESP = packet("esp", spi=300, length=60, ip_id=7)
AH = packet("ah", spi=300, length=60, ip_id=7)
COMP = packet(108, spi=18, length=60, ip_id=7)
INIT = packet("sctp", sport=1000, dport=80, chunk_types=((1, 0),), length=36, ip_id=7)
DATA = packet("sctp", sport=1000, dport=80, chunk_types=((0, 3), (3, 0)), length=40, ip_id=7)
NO_CHUNK = packet("sctp", sport=1000, dport=80, length=52, ip_id=7)
DCCP = packet("dccp", sport=7, dport=9, dccp_type=0, length=40, ip_id=7)

ROWS = [
    ("-p tcp -m tcp --dport 443", SYN, True),
    ("-p tcp -m tcp --dport 442", SYN, False),
    ("-p tcp -m tcp ! --dport 443", SYN, False),
    ("-p tcp -m tcp --dport 400:443 --sport 40000", SYN, True),
    ("-p tcp -m tcp --dport 443 ! --sport 1:50000", SYN, False),
    ("-p tcp -m tcp --syn", SYN, True),
    ("-p tcp -m tcp ! --syn", PUSH, True),
    ("-p tcp -m tcp --tcp-flags PSH,ACK PSH,ACK", PUSH, True),
    ("-p tcp -m tcp --tcp-flags SYN,ACK SYN", PUSH, False),
    ("-p tcp -m tcp --tcp-option 2", SYN, True),
    ("-p tcp -m tcp --tcp-option 3", SYN, False),
    ("-p tcp -m tcp ! --tcp-option 3", SYN, True),
    ("-p tcp -m tcp ! --tcp-option 2", PUSH, True),
    ("-p tcp -m tcp --dport 2", SHORT_TCP, "hotdrop"),
    ("-p tcp -m tcp --dport 53", FRAG_TCP, "hotdrop"),
    ("-p tcp -m multiport --dports 53", FRAG_TCP, False),
    ("-p udp -m udp --dport 53", DNS, True),
    ("-p udp -m udp ! --sport 5000:6000", DNS, False),
    ("-p udp -m udp --sport 9:3", DNS, False),
    ("-p udp -m udp ! --sport 9:3", DNS, True),
    ("-p udp -m udp --dport 53", FRAG_UDP, False),
    ("-p udp -m udp ! --dport 53", FRAG_UDP, False),
    ("-p udp -m multiport ! --dports 53", FRAG_UDP, False),
    ("-p udp -m udp --sport 1", SHORT_UDP, "hotdrop"),
    ("-p udp -m multiport --sports 1", SHORT_UDP, True),
    ("-p tcp -m multiport --dports 80,440:450", SYN, True),
    ("-p tcp -m multiport ! --dports 80,440:450", SYN, False),
    ("-p tcp -m multiport --ports 40000", SYN, True),
    ("-p tcp -m multiport --sports 443", SYN, False),
    ("-p icmp -m icmp --icmp-type 8", PING, True),
    ("-p icmp -m icmp ! --icmp-type 8", PING, False),
    ("-p icmp -m icmp --icmp-type any", UNREACH, True),
    ("-p icmp -m icmp --icmp-type 3/1", UNREACH, True),
    ("-p icmp -m icmp --icmp-type 3/2", UNREACH, False),
    ("-p icmp -m icmp ! --icmp-type 3/2", UNREACH, True),
    ("-p esp -m esp --espspi 300", ESP, True),
    ("-p esp -m esp ! --espspi 1:299", ESP, True),
    ("-p esp -m esp --espspi 5:3", ESP, False),
    ("-p ah -m ah --ahspi 300:301", AH, True),
    ("-p ah -m ah ! --ahspi 300", AH, False),
    ("-p ipcomp -m ipcomp --ipcompspi 18", COMP, True),
    ("-p ipcomp -m ipcomp ! --ipcompspi 18", COMP, False),
    ("-p sctp -m sctp --dport 80 --chunk-types any INIT,DATA", INIT, True),
    ("-p sctp -m sctp --chunk-types all INIT,DATA", INIT, False),
    ("-p sctp -m sctp --chunk-types all SACK,DATA", DATA, True),
    ("-p sctp -m sctp --chunk-types only SACK", DATA, False),
    ("-p sctp -m sctp --chunk-types any DATA:Be", DATA, False),
    ("-p sctp -m sctp ! --chunk-types any DATA:Be", DATA, True),
    ("-p sctp -m sctp --chunk-types any DATA:BE", DATA, True),
    ("-p sctp -m sctp ! --sport 1000", DATA, False),
    ("-p sctp -m sctp --chunk-types any DATA", NO_CHUNK, "hotdrop"),
    ("-p dccp -m dccp --dport 9 --dccp-types REQUEST,ACK", DCCP, True),
    ("-p dccp -m dccp ! --dccp-types REQUEST", DCCP, False),
    ("-p dccp -m dccp --sport 8", DCCP, False),
    ("-p dccp -m dccp --dccp-option 5", DCCP, False),
    ("-p dccp -m dccp ! --dccp-option 5", DCCP, True),
    ("-p tcp -m tcpmss --mss 1400:1500", SYN, True),
    ("-p tcp -m tcpmss ! --mss 1460", SYN, False),
    ("-p tcp -m tcpmss --mss 0:65535", PUSH, False),
    ("-p tcp -m tcpmss ! --mss 1", PUSH, True),
    ("-p tcp -m ecn --ecn-tcp-ece --ecn-tcp-cwr", PUSH, True),
    ("-p tcp -m ecn ! --ecn-tcp-ece", PUSH, False),
    ("-p tcp -m ecn --ecn-tcp-ece", SYN, False),
    ("-m ecn --ecn-ip-ect 1", PUSH, True),
    ("-m ecn ! --ecn-ip-ect 1", PUSH, False),
    ("-m tos --tos 0x28", SYN, True),
    ("-m tos --tos 0x08/0x18", SYN, True),
    ("-m tos ! --tos 0x28/0x3f", SYN, False),
    ("-m dscp --dscp 0x0a", SYN, True),
    ("-m dscp ! --dscp-class AF11", SYN, False),
    ("-m ttl --ttl-eq 61", SYN, True),
    ("-m ttl ! --ttl-eq 61", SYN, False),
    ("-m ttl --ttl-lt 61", SYN, False),
    ("-m ttl --ttl-gt 60", SYN, True),
    ("-m length --length 44", SYN, True),
    ("-m length ! --length 40:50", SYN, False),
    ("-m length --length 4:3", SYN, False),
    ("-m iprange --src-range 10.0.0.1-10.0.0.5", SYN, True),
    ("-m iprange ! --src-range 10.0.0.1-10.0.0.5", SYN, False),
    ("-m iprange --src-range 10.0.0.1-10.0.0.5 ! --dst-range 192.0.2.9", SYN, False),
    ("-m iprange --dst-range 192.0.2.9-192.0.2.1", SYN, False),
    ("-m mark --mark 0x0", SYN, True),
    ("-m mark ! --mark 0x0", SYN, False),
    ("-m mark --mark 0x1/0x0", SYN, False),
    ("-m comment --comment x", SYN, True),
    ("-m pkttype --pkt-type unicast", SYN, True),
    ("-m pkttype ! --pkt-type unicast", SYN, False),
    ("-m pkttype --pkt-type broadcast", SYN, False),
    ("-m mac --mac-source 02:00:00:00:00:01", SYN, True),
    ("-m mac ! --mac-source 02:00:00:00:00:01", SYN, False),
    ("-m mac --mac-source 02:00:00:00:00:02", SYN, False),
    ('-m string --algo bm --string "GET /x"', PUSH, True),
    ('-m string --algo kmp --string "GET /y"', PUSH, False),
    ('-m string --algo kmp ! --string "GET /y"', PUSH, True),
    ('-m string --algo bm --string "get /X"', PUSH, False),
    ('-m string --algo bm --icase --string "get /X"', PUSH, True),
    ('-m string --algo kmp --icase --string "get /X"', PUSH, True),
    ('-m string --algo bm --string "GET" --from 40', PUSH, True),
    ('-m string --algo bm --string "GET" --from 41', PUSH, False),
    ('-m string --algo bm --string "GET" --to 43', PUSH, True),
    ('-m string --algo bm --string "GET" --to 42', PUSH, False),
    ('-m string --algo kmp --hex-string "|0d0a|"', PUSH, True),
    ('-m string --algo bm --hex-string "|0a00 0002|" --to 20', PUSH, True),
    ('-m u32 --u32 "0>>28=4"', SYN, True),
    ('-m u32 --u32 "0>>28=5"', SYN, False),
    ('-m u32 ! --u32 "0>>28=5"', SYN, True),
    ('-m u32 --u32 "6&0xFF=6&&0>>22&0x3C@0>>16=40000"', SYN, True),
    ('-m u32 --u32 "6&0xFF=6&&0>>22&0x3C@0&0xFFFF=1:442,444:65535"', SYN, False),
    ('-m u32 --u32 "16=0xc0000209"', SYN, True),
    ('-m u32 --u32 "100=0"', SYN, False),
    ('-m u32 ! --u32 "100=0"', SYN, True),
    ('-m u32 --u32 "0>>22&0x3C@12>>26&0x3C@0=0x47455420"', PUSH, True),
    ('-m u32 --u32 "0>>22&0x3C@20=0x47455420"', PUSH, True),
    ('-m u32 --u32 "0<<4>>28=5"', SYN, True),
    ('-m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"', SYN, True),
    ('-m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"', DNS, False),
    ('-m bpf --bytecode "5,177 0 0 0,72 0 0 2,21 0 1 443,6 0 0 65535,6 0 0 0"', SYN, True),
    ('-m bpf --bytecode "5,177 0 0 0,72 0 0 2,21 0 1 442,6 0 0 65535,6 0 0 0"', SYN, False),
    ('-m bpf --bytecode "2,32 0 0 1000,6 0 0 1"', SYN, False),
    ('-m bpf --bytecode "4,128 0 0 0,21 0 1 44,6 0 0 1,6 0 0 0"', SYN, True),
    ('-m bpf --bytecode "6,0 0 0 7,20 0 0 3,36 0 0 5,148 0 0 6,22 0 0 0,6 0 0 0"', SYN, True),
    ('-m bpf --bytecode "4,32 0 0 4294963220,21 0 1 0,6 0 0 1,6 0 0 0"', SYN, True),
    ("-m physdev --physdev-in eth0", SYN, False),
    ("-m physdev ! --physdev-in eth0", SYN, True),
    ("-m physdev ! --physdev-is-bridged", SYN, True),
    ("-m physdev --physdev-is-in", SYN, False),
    ("-m policy --dir in --pol none", SYN, True),
    ("-m policy --dir in --pol ipsec", SYN, False),
    ("-m devgroup --src-group 0x0", SYN, True),
    ("-m devgroup ! --src-group 0x0", SYN, False),
    ("-m devgroup --src-group 0x1/0x0", SYN, True),
    ("-p tcp -m osf --genre Linux", PUSH, False),
]  # fmt: skip

# what iptables-nft's own expressions do otherwise: no drop, and bytes of a later fragment taken for the header
NATIVE = [
    ("-p tcp -m tcp --dport 2", SHORT_TCP, True),
    ("-p tcp -m tcp --tcp-flags SYN SYN", SHORT_TCP, False),
    ("-p tcp -m tcp ! --dport 53", FRAG_TCP, False),
    ("-p tcp -m tcp --dport 53", FRAG_TCP, True),
    ("-p tcp -m tcp --tcp-option 2", FRAG_TCP, "hotdrop"),
    ("-p udp -m udp --dport 53", FRAG_UDP, True),
    ("-p udp -m udp ! --dport 53", FRAG_UDP, False),
    ("-p udp -m udp --sport 1", SHORT_UDP, True),
    ("-p udp -m multiport --dports 53", FRAG_UDP, False),
]

SETS = """
create plain hash:ip family inet
add plain 10.0.0.2
add plain 192.0.2.9
create masked hash:ip family inet netmask 24
add masked 10.0.0.0
create nets hash:net family inet
add nets 10.0.0.0/8
add nets 10.0.0.0/24 nomatch
add nets 10.0.0.2
add nets 192.0.2.0/25
create holes hash:net family inet
add holes 10.0.0.0/8
add holes 10.0.0.0/30 nomatch
create ipport hash:ip,port family inet
add ipport 10.0.0.2,tcp:443
add ipport 192.0.2.9,tcp:443
add ipport 10.0.0.2,udp:53
add ipport 10.0.0.2,icmp:8/0
add ipport 10.0.0.2,esp:0
create netport hash:net,port family inet
add netport 10.0.0.0/16,tcp:443
add netport 10.0.0.0/24,tcp:443 nomatch
add netport 192.0.0.0/8,udp:53
create ipportip hash:ip,port,ip family inet
add ipportip 10.0.0.2,tcp:443,192.0.2.9
create ipportnet hash:ip,port,net family inet
add ipportnet 10.0.0.2,tcp:443,192.0.2.0/24
create iface hash:net,iface family inet
add iface 10.0.0.0/8,eth0
add iface 192.0.0.0/8,eth1
create ifacehole hash:net,iface family inet
add ifacehole 10.0.0.0/8,eth0
add ifacehole 10.0.0.0/24,eth9
create bip bitmap:ip range 10.0.0.0-10.0.0.255
add bip 10.0.0.2
create bport bitmap:port range 0-1024
add bport 443
add bport 53
create list list:set size 8
add list holes
add list plain
create old hash:ip family inet timeout 0
add old 10.0.0.2 timeout 1000
create counted hash:ip family inet counters
add counted 10.0.0.2 packets 4 bytes 1000
""".lstrip()

SET_ROWS = [
    ("-m set --match-set plain src", SYN, True),
    ("-m set --match-set plain dst", SYN, True),
    ("-m set ! --match-set plain src", SYN, False),
    ("-m set --match-set plain src,dst", SYN, True),
    ("-m set --match-set masked src", SYN, True),
    ("-m set --match-set masked dst", SYN, False),
    ("-m set --match-set nets src", SYN, True),
    ("-m set --match-set nets dst", SYN, True),
    ("-m set --match-set holes src", SYN, False),
    ("-m set ! --match-set holes src", SYN, True),
    ("-m set --match-set holes src --return-nomatch", SYN, True),
    ("-m set --match-set nets src --return-nomatch", SYN, False),
    ("-m set --match-set holes dst", SYN, False),
    ("-m set --match-set ipport src,dst", SYN, True),
    ("-m set --match-set ipport dst,dst", SYN, True),
    ("-m set --match-set ipport src,src", SYN, False),
    ("-m set --match-set ipport src", SYN, False),
    ("-m set ! --match-set ipport src", SYN, True),
    ("-m set --match-set ipport src,dst", DNS, True),
    ("-m set --match-set ipport src,dst", PING, True),
    ("-m set --match-set ipport src,dst", ESP, True),
    ("-m set --match-set ipport src,dst", FRAG_UDP, False),
    ("-m set --match-set netport src,dst", SYN, False),
    ("-m set --match-set netport dst,dst", DNS, True),
    ("-m set --match-set netport dst,src", DNS, False),
    ("-m set --match-set ipportip src,dst,dst", SYN, True),
    ("-m set --match-set ipportip src,dst,src", SYN, False),
    ("-m set --match-set ipportnet src,dst,dst", SYN, True),
    ("-m set --match-set ipportnet dst,dst,src", SYN, False),
    ("-m set --match-set iface src,src", SYN, True),
    ("-m set --match-set iface dst,src", SYN, False),
    ("-m set --match-set iface src,dst", SYN, False),
    ("-m set --match-set ifacehole src,src", SYN, False),
    ("-m set --match-set bip src", SYN, True),
    ("-m set --match-set bip dst", SYN, False),
    ("-m set --match-set bport dst", SYN, True),
    ("-m set --match-set bport src", SYN, False),
    ("-m set --match-set bport dst", DNS, True),
    ("-m set --match-set bport dst", PING, False),
    ("-m set --match-set list src", SYN, True),
    ("-m set --match-set list src", DNS, True),
    ("-m set ! --match-set list src", PING, False),
    ("-m set --match-set old src", SYN, True),
    ("-m set --match-set counted src --packets-eq 5", SYN, True),
    ("-m set --match-set counted src ! --packets-eq 5 ! --update-counters", DNS, True),
    ("-m set --match-set counted src --bytes-gt 1000 ! --update-counters", SYN, False),
    ("-m set --match-set counted src --packets-lt 5 ! --update-counters", SYN, True),
]
