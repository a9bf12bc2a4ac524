"""The live half's figures, measured against the kernel: python tests/bench/bench_live.py [NAME...] [--pairs N].

    unmatched   throughput with probes whose filter does not match, over that without probes
    matched     nanoseconds added to a matching packet, over those that nftrace with `nft monitor trace` adds
    tcpdump     the same for tcpdump, for comparison
    start       from the command to the first event, compiled anew and from the cache
    python      events read, grouped and ordered per second of CPU time
    identity    packets of one flow, checked by the number in their payload: wrong merges, splits (--packets N)
    overload    the reader stands still until at least a tenth is lost: reported against real losses
    rates       the highest rate at which `nft monitor trace` loses nothing, and what the probes lose at ten times that

Prints one JSON object per line. Needs root, gcc, nft, tcpdump, two CPUs; works in namespaces of its own (lb-c, lb-r, lb-s).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import livelab as lab
import numpy as np
from nattrace.tracer.live import netns
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.group import Stream, group
from nattrace.tracer.live.session import STREAMS, Session

STRANGER = Filter.of(proto="udp", src="9.9.9.9", dport=9)
FLOW = Filter.of(proto="udp", src="10.7.1.2")


def taps_on_the_way(spaces: list[netns.Namespace]) -> int:
    """How many taps a packet of the flow meets, counted."""
    with Session(spaces, FLOW, ("tap",), families=(2,)) as session:
        lab.blast(1000, 0.2)
        events = session.read(1.0)
        assert events is not None
        return int(np.bincount(np.diff(group(events).start)).argmax())


def report(name: str, **figures: Any) -> None:
    """One line of the result."""
    print(
        json.dumps({"bench": name} | {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}),
        flush=True,
    )


def switch(make: Callable[[], ExitStack]) -> tuple[Callable[[], None], Callable[[], None]]:
    """on() and off() of something that is entered and left."""
    held: list[ExitStack] = []

    def on() -> None:
        held.append(make())

    def off() -> None:
        held.pop().close()

    return on, off


def probes(
    filter: Filter, streams: tuple[str, ...], spaces: list[netns.Namespace], read: bool = False, **options: Any
) -> Callable[[], ExitStack]:
    """A session, with a reader if events are to be expected."""

    def make() -> ExitStack:
        stack = ExitStack()
        session = stack.enter_context(Session(spaces, filter, streams, families=(2,), **options))
        if read:
            stack.callback(lab.Reader(session).end)
        return stack

    return make


def traced() -> ExitStack:
    """Every packet traced by nftables, and somebody reading it."""
    stack = ExitStack()
    table = "table inet lbtrace { chain c { type filter hook prerouting priority -350; ip protocol udp meta nftrace set 1; }; }"
    lab.run("ip", "netns", "exec", lab.ROUTER, "nft", table)
    stack.callback(lab.run, "ip", "netns", "exec", lab.ROUTER, "nft", "delete table inet lbtrace")
    stack.enter_context(lab.tool("nft", "monitor", "trace"))
    return stack


def dumped() -> ExitStack:
    """tcpdump writing every packet nowhere."""
    stack = ExitStack()
    stack.enter_context(lab.tool("tcpdump", "-i", "any", "-w", "/dev/null", "udp"))
    return stack


def figures(ratio: lab.Ratio) -> dict[str, Any]:
    """A ratio for the report."""
    return {
        "ratio": ratio.median,
        "low": ratio.low,
        "high": ratio.high,
        "added_ns": ratio.added_ns,
        "base_pps": ratio.base_pps,
    }


def unmatched(spaces: list[netns.Namespace], args: argparse.Namespace) -> None:
    """What a packet pays that nobody asked for."""
    nothing = switch(ExitStack)
    report("control", **figures(lab.paired(*nothing, pairs=args.pairs)))
    with Session(spaces, STRANGER, ("tap",), families=(2,)) as session:
        taps = sum(slot.state == "attached" for slot in session.slots)
    met = taps_on_the_way(spaces)
    for name, streams in (("unmatched taps", ("tap",)), ("unmatched taps and tracepoints", STREAMS)):
        ratio = lab.paired(*switch(probes(STRANGER, streams, spaces)), pairs=args.pairs)
        report(name, taps=taps, taps_on_the_way=met, **figures(ratio))


def matched(spaces: list[netns.Namespace], args: argparse.Namespace) -> None:
    """What a packet pays that is asked for, and what nftrace asks of it."""
    shares = []
    for _ in range(args.pairs):
        ours = lab.paired(*switch(probes(FLOW, ("tap",), spaces, read=True)), pairs=2)
        theirs = lab.paired(*switch(traced), pairs=2)
        shares.append(ours.added_ns / theirs.added_ns)
        report("matched run", ours_ns=ours.added_ns, nftrace_ns=theirs.added_ns, share=shares[-1])
    report("matched", share=statistics.median(shares), low=min(shares), high=max(shares))
    full = lab.paired(*switch(probes(FLOW, STREAMS, spaces, read=True)), pairs=args.pairs)
    report("matched taps and tracepoints", **figures(full))


def tcpdump(spaces: list[netns.Namespace], args: argparse.Namespace) -> None:
    """For comparison."""
    report("tcpdump", **figures(lab.paired(*switch(dumped), pairs=args.pairs)))


FIRST = """
import sys, time
from nattrace.tracer.live import netns
from nattrace.tracer.live.session import Session
from nattrace.tracer.live.filter import Filter
with Session([netns.by_name("lb-r")], Filter.of(proto="udp", src="10.7.1.2"), families=(2,)) as session:
    events = session.read(20)
    print(time.clock_gettime(time.CLOCK_MONOTONIC), len(events), session.times, flush=True)
"""


def start(spaces: list[netns.Namespace], args: argparse.Namespace) -> None:
    """Packets flow all the time; when does a new process hold the first event? (chrt -f 3: as on a quiet core)"""
    for name in ("cold", "cached"):
        took = []
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | {"XDG_CACHE_HOME": folder}
            for _ in range(args.pairs):
                with netns.by_name(lab.CLIENT) as client, client.inside():
                    flow = subprocess.Popen(
                        [lab.sender(), "10.7.1.1", str(lab.PORT), "2000", "20", "0"], stdout=subprocess.DEVNULL
                    )
                begin = time.clock_gettime(time.CLOCK_MONOTONIC)
                done = subprocess.run(
                    [sys.executable, "-c", FIRST], env=env, capture_output=True, text=True, check=True
                )
                took.append(float(done.stdout.split()[0]) - begin)
                flow.terminate()
                flow.wait()
                if name == "cold":
                    for kept in Path(folder).rglob("*.json"):
                        kept.unlink()
            if name == "cached":
                took = took[1:]
        report(f"start {name}", seconds=statistics.median(took), low=min(took), high=max(took))


def python(spaces: list[netns.Namespace], args: argparse.Namespace) -> None:
    """CPU time of reading and of grouping. The ring is filled first, so that reading waits for nothing."""
    rates = []
    with Session(spaces, FLOW, ("tap", "rx", "tx", "drop"), families=(2,), ring=128 << 20) as session:
        for _ in range(args.pairs):
            lab.blast(seconds=0.3)
            begin, count, packets = time.process_time(), 0, 0
            while (events := session.read(0)) is not None:
                count += len(events)
                packets += group(events).count
            rates.append(count / (time.process_time() - begin))
            report("python run", events=count, packets=packets, events_per_second=rates[-1])
        report("python", events_per_second=statistics.median(rates), low=min(rates), lost=sum(session.loss().values()))


def identity(spaces: list[netns.Namespace], args: argparse.Namespace) -> None:
    """Each packet's number stands in its payload, which is hidden from grouping: its number is kept in a field of no use here."""
    with (
        netns.by_name(lab.SERVER) as server,
        Session([*spaces, server], FLOW, ("tap", "rx", "tx", "drop"), families=(2,), ring=128 << 20) as session,
    ):
        peers = netns.veth_peers([*spaces, server])
        reader = lab.Reader(session, keep=True)
        sent, merged, split, complete, whole = 0, 0, 0, 0, 0
        numbers: list[np.ndarray] = []
        stream = Stream()

        def check(found: tuple[Any, Any] | None) -> None:
            nonlocal merged, complete, whole
            if found is None:
                return
            events, packets = found
            number = events["aux"][packets.order]
            low = np.minimum.reduceat(number, packets.start[:-1])
            high = np.maximum.reduceat(number, packets.start[:-1])
            merged += int((low != high).sum())
            whole += packets.count
            complete += int(packets.complete.sum())
            numbers.append(low[packets.complete])

        while sent < args.packets:
            part = min(100_000, args.packets - sent)
            blast = lab.blast(args.pps, 60, part)
            sent += blast.sent
            kept, reader.kept = reader.kept, []
            losses, unlogged = session.losses()
            for events in kept:
                events["aux"] = events["pay"].view("<u8").reshape(-1)
                events["pay"] = 0
                check(stream.feed(events, losses, unlogged, peers))
            # the sender numbers each run from 0
            check(stream.finish(losses, unlogged, peers))
            found = np.concatenate(numbers)
            split += len(found) - len(np.unique(found))
            numbers.clear()
        reader.end()
        report(
            "identity",
            sent=sent,
            packets=whole,
            complete=complete,
            wrong_merges=merged,
            splits=split,
            lost=sum(session.loss().values()),
        )


def overload(spaces: list[netns.Namespace], args: argparse.Namespace) -> None:
    """Real losses: what the kernel tried minus what came; touched packets: those whose events do not number as owed."""
    for count, case in ((1500, "every loss has its record"), (6000, "most losses have none")):
        with Session(spaces, FLOW, ("tap", "rx", "tx", "drop"), families=(2,), ring=1 << 20) as session:
            kept = []
            for _ in range(6):
                lab.blast(seconds=10, count=count)
                while (events := session.read(0)) is not None:
                    kept.append(events)
            events = np.concatenate(kept)
            losses, unlogged = session.losses()
            real = session.emitted() - len(events)
            reported = sum(session.loss().values())
            packets = group(events, losses, unlogged, netns.veth_peers(spaces))
            length = np.diff(packets.start)
            owed = int(np.bincount(length).argmax())
            short = length != owed
            report(
                "overload", case=case, events=session.emitted(), lost_share=real / session.emitted(), reported=reported, real=real,
                difference=reported - real, packets=packets.count, short=int(short.sum()),
                short_not_marked=int((short & ~packets.lost_near).sum()), marked=int(packets.lost_near.sum()), unlogged=unlogged,
            )  # fmt: skip


def nft_lossless(pps: int) -> bool:
    """Does `nft monitor trace` print every packet at this rate?"""
    with tempfile.NamedTemporaryFile() as out, netns.by_name(lab.ROUTER) as router:
        lab.run(
            "ip",
            "netns",
            "exec",
            lab.ROUTER,
            "nft",
            "table inet lbtrace { chain c { type filter hook prerouting priority -350; ip protocol udp meta nftrace set 1; }; }",
        )
        try:
            with router.inside():
                child = subprocess.Popen(
                    ["taskset", "-c", "1", "chrt", "-f", "5", "nft", "monitor", "trace"],
                    stdout=out,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            time.sleep(0.3)
            sent = lab.blast(pps, 1.0).sent
            time.sleep(1.0)
            child.terminate()
            _, err = child.communicate()
            lines = sum(b"lbtrace c packet:" in line for line in Path(out.name).read_bytes().splitlines())
        finally:
            lab.run("ip", "netns", "exec", lab.ROUTER, "nft", "delete table inet lbtrace")
    return lines >= sent and "No buffer space" not in err


def rates(spaces: list[netns.Namespace], args: argparse.Namespace) -> None:
    """The highest lossless rate of the one, ten times that with the other, in one run."""
    best = 0
    for pps in (500, 1000, 2000, 4000, 6000, 8000, 12000, 16000, 24000):
        if not nft_lossless(pps):
            break
        best = pps
    report("rates nft monitor trace", lossless_pps=best)
    with Session(spaces, FLOW, ("tap", "rx", "tx", "drop"), families=(2,), ring=64 << 20) as session:
        reader = lab.Reader(session, keep=True)
        blast = lab.blast(best * 10, 2.0)
        reader.end()
        losses, unlogged = session.losses()
        packets = group(np.concatenate(reader.kept), losses, unlogged)
        owed = taps_on_the_way(spaces) + 2  # and received, and sent
        missing = int((np.diff(packets.start) != owed).sum())
        report(
            "rates probes", asked_pps=best * 10, delivered_pps=blast.pps, sent=blast.sent, packets=packets.count,
            packets_with_an_owed_hop_missing=missing, lost=sum(session.loss().values()),
            owed=[str(slot) for slot in session.slots if slot.hook in (0, 2, 4)] + ["rx", "tx"],
        )  # fmt: skip


BENCHES = {f.__name__: f for f in (unmatched, matched, tcpdump, start, python, identity, overload, rates)}


def main() -> None:
    """Parse, build the lab, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], default=list(BENCHES))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--pps", type=int, default=0)
    args = parser.parse_args()
    lab.need_root()
    with lab.lab(), netns.by_name(lab.ROUTER) as router:
        lab.blast()
        for name in args.names:
            BENCHES[name]([router], args)


if __name__ == "__main__":
    main()
