"""Which rule matched: nftrace, NFLOG (legacy), or counters before and after, tied to the snapshot's rules.

from nattrace.tracer.live.rules.book import RuleBook       # handle → text, number, file:line
from nattrace.tracer.live.rules.nftrace import RuleTrace   # exact, for nft and iptables-nft
from nattrace.tracer.live.rules.nflog import LegacyTrace   # exact, for iptables-legacy
from nattrace.tracer.live.rules.counters import Counters   # before and after; changes nothing
"""
