"""Who answers for an address and who learns it: arp_process(), arp_solicit(), neigh_update()."""

from __future__ import annotations

from typing import Any

from . import Case, Op, host, udp, wait

LAN = {"lan": ["a:e0", "b:e0", "c:e0"]}


def three(name: str, *packets: Op, a: dict[str, Any] | None = None, b: dict[str, Any] | None = None, c: dict[str, Any] | None = None,
          expect: dict[int, str] | None = None, neighbours: tuple[str, ...] = ()) -> Case:  # fmt: skip
    """Three hosts on one wire: .1, .2 and .3; the first has another address on e1 and one more of the wire's network there."""

    def sysctl(settings: dict[str, Any] | None) -> dict[str, Any]:
        return {f"net.ipv4.conf.{k.replace('__', '.')}": v for k, v in (settings or {}).items()}

    hosts = {
        "a": host({"e0": "10.0.0.1/24", "e1": ["10.1.0.1/24", "10.0.0.9/32"]}, sysctl=sysctl(a)),
        "b": host({"e0": "10.0.0.2/24", "e1": "10.2.0.1/24"}, routes=("10.1.0.0/24 via 10.0.0.1", "default via 10.0.0.9"), sysctl=sysctl(b), neighbours=neighbours),
        "c": host({"e0": "10.0.0.3/24"}, routes=("10.1.0.0/24 via 10.0.0.1",), sysctl=sysctl(c)),
    }  # fmt: skip
    return Case(f"neighbours {name}", hosts, list(packets), expect or {}, LAN)


def to(sender: str, address: str, port: int = 9, **more: Any) -> Op:
    return udp(sender, None, f"{address}:{port}", **more)


ASK_ALL = [
    to("b", "10.0.0.1"),
    to("b", "10.1.0.1"),
    to("b", "10.0.0.9"),
    to("c", "10.0.0.9", 8),
    to("a", "10.0.0.2"),
    to("b", "10.0.0.1", 7),
    to("c", "10.0.0.2"),
]

ANSWERS = [
    three("ordinary", *ASK_ALL),
    *(three(f"arp_ignore {n}", *ASK_ALL, a={"e0__arp_ignore": n}) for n in (1, 2, 3, 8)),
    three("arp_ignore of all", *ASK_ALL, a={"all__arp_ignore": 1}),
    three("arp_filter", *ASK_ALL, a={"e0__arp_filter": 1}),
    *(three(f"arp_announce {n}", udp("a", "10.1.0.1:5", "10.0.0.2:9"), udp("b", None, "10.1.0.1:5"), udp("b", None, "10.0.0.1:5"), udp("a", "10.0.0.9:6", "10.0.0.3:9"), to("c", "10.0.0.9"),
            a={"e0__arp_announce": n}) for n in (0, 1, 2)),
    three("proxy_arp", to("b", "10.1.0.77"), to("c", "10.1.0.78"), to("b", "9.9.9.9"), to("a", "10.0.0.2"), a={"e0__proxy_arp": 1}),
    three("strict reverse path of those asked", *ASK_ALL, udp("b", "10.2.0.1:4", "10.0.0.1:9"), a={"e0__rp_filter": 1}, c={"e0__rp_filter": 1}),
]  # fmt: skip

SILENT = {"e0__arp_ignore": 8}
HEARD = [
    three("a request is overheard by whom it concerns", to("b", "10.0.0.1"), to("a", "10.0.0.3"), to("b", "10.0.0.1", 8), to("c", "10.0.0.1"), a=SILENT,
          expect={0: "type 3/1", 2: "arrived a:e0"}),
    three("a request teaches nothing to whom it does not concern", to("a", "10.0.0.3"), to("b", "10.0.0.1"), a=SILENT, expect={1: "type 3/1"}),
    three("a request in vain is overheard, too", to("b", "10.0.0.1"), to("a", "10.0.0.77"), to("b", "10.0.0.1", 8), a=SILENT, expect={2: "arrived a:e0"}),
    three("who does not answer learns nothing", to("a", "10.0.0.2"), to("b", "10.0.0.1"), to("a", "10.0.0.2", 8), a=SILENT, b=SILENT, expect={0: "type 3/1", 1: "type 3/1"}),
    three("a permanent entry stays", to("b", "10.0.0.1"), to("a", "10.0.0.3"), to("b", "10.0.0.1", 8), a=SILENT, neighbours=("10.0.0.1 lladdr 02:00:00:00:00:77 dev e0 nud permanent",)),
    three("a failed entry is asked for again", to("b", "10.0.0.77"), to("b", "10.0.0.77", 8), to("b", "10.0.0.1"), wait(0.2), to("b", "10.0.0.77", 7)),
]  # fmt: skip


def flux() -> list[Case]:
    """A host with two devices on one wire answers for both addresses on both; who asks with an address moves it."""
    wire = {"lan": ["h:e0", "h:e1", "r:e0", "s:e0"]}

    def one(name: str, *packets: Op, **settings: Any) -> Case:
        sysctl = {f"net.ipv4.conf.{k.replace('__', '.')}": v for k, v in settings.items()}
        count = tuple(f"-t mangle -A PREROUTING -i {d} -p udp" for d in ("e0", "e1"))
        hosts = {
            "h": host({"e0": "10.0.0.1/24", "e1": "10.0.0.2/24"}, *count, policy=("pref 10 from 10.0.0.2 lookup 5",), routes=("10.0.0.0/24 dev e1 table 5",), sysctl=sysctl),
            "r": host({"e0": "10.0.0.3/24"}), "s": host({"e0": "10.0.0.4/24"}),
        }  # fmt: skip
        return Case(f"neighbours flux, {name}", hosts, list(packets), {}, wire, undecided=True)

    ask = [udp("r", None, "10.0.0.1:9"), udp("r", None, "10.0.0.2:9"), udp("r", None, "10.0.0.1:8")]
    moved = [
        udp("h", "10.0.0.2:5", "10.0.0.3:9"),
        udp("r", None, "10.0.0.2:8"),
        udp("h", "10.0.0.1:6", "10.0.0.4:9"),
        udp("s", None, "10.0.0.1:7"),
        udp("r", None, "10.0.0.1:7"),
    ]
    bound = [
        udp("h", "10.0.0.1:7", "10.0.0.3:7", oif="e1"),
        udp("r", None, "10.0.0.1:5"),
        wait(1.2),
        udp("h", "10.0.0.1:8", "10.0.0.77:7", oif="e1"),
        udp("r", None, "10.0.0.1:4"),
    ]
    return [
        one("asked", *ask, *moved),
        one("moved by its own requests", *moved, *ask),
        one("moved by a bound socket", *ask, *bound),
        one("own addresses only", *ask, *moved, *bound, all__arp_ignore=1),
        one("own addresses only, announced as such", *ask, *moved, *bound, all__arp_ignore=1, all__arp_announce=2),
        one("by the way back", *ask, *moved, *bound, all__arp_filter=1),
    ]  # fmt: skip


CASES = [*ANSWERS, *HEARD, *flux()]
