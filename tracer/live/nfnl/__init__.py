"""Netfilter netlink of the running kernel: sockets, tables that vanish with the process, what is loaded.

from nattrace.tracer.live.nfnl.sock import Nfnl                    # a socket of a namespace, its losses counted
from nattrace.tracer.live.nfnl.tables import OwnerTable            # tables that go with the process
from nattrace.tracer.live.nfnl.listing import base_chains, rules   # where chains are; rules with their handles
from nattrace.tracer.live.nfnl.tracking import tracking_reason     # is conntrack active already, and why
"""
