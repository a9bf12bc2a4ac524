"""nattrace: why a packet goes where it goes through Linux netfilter, conntrack, NAT and routing."""

__version__ = "0.1.0"
