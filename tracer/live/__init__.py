"""The live half: what the running kernel does to packets, observed without changing it.

from nattrace.tracer.live.session import Session
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live import netns

with Session([netns.by_name("router")], Filter.of(proto="udp", src="10.0.0.2")) as session:
    for events in session.batches(timeout=5.0):  # numpy arrays of event.EVENT
        ...
"""
