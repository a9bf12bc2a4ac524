"""The options of ``why`` and of where a snapshot comes from, as data: what click declares and what quick.py reads."""

from __future__ import annotations

from nattrace.sim.record import NamedTuple

# kinds of dumps that can be named one by one
SINGLE_FILES = (
    "iptables-save",
    "ip6tables-save",
    "iptables-legacy-save",
    "ip6tables-legacy-save",
    "nft",
    "ipset",
    "link",
    "addr",
    "neigh",
    "neigh-proxy",
    "route",
    "route6",
    "rule",
    "rule6",
    "nexthop",
    "sysctl",
    "conntrack",
    "expect",
    "sockets",
    "passwd",
    "group",
    "hosts",
)
_RENAMED = {"route": "route-file", "rule": "rule-file", "expect": "expect-file"}  # those names are taken by why

FLAG, ONE, MANY, NUMBER, MAYBE = "flag", "one", "many", "number", "maybe"
DOCUMENTS = {  # what an answer can be besides text and JSON, and the endings by which a FILE is told from a FLOW
    "html": (".html", ".htm"), "svg": (".svg",), "mermaid": (".mmd", ".mermaid"), "dot": (".dot", ".gv"),
    "markdown": (".md", ".markdown"),
}  # fmt: skip


class Option(NamedTuple):
    """``names``: as typed; ``key``: the name of its value; ``kind``: no value, one, one each time, a number to ``most``,
    or a FILE that may be left out.
    """

    names: tuple[str, ...]
    key: str
    kind: str
    metavar: str | None
    help: str
    most: int = 0
    hidden: bool = False


def _single(kind: str) -> Option:
    text = "A single dump; so are --conntrack, --sysctl, --addr, --route-file … (see the reference)."
    name = f"--{_RENAMED.get(kind, kind)}"
    return Option((name,), f"file_{kind.replace('-', '_')}", ONE, "FILE", text, hidden=kind != "iptables-save")


SNAPSHOT = (
    Option(("-S", "--snapshot"), "snapshot", ONE, "PATH|NAME", "Snapshot to read; without it, this host (read only)."),
    *map(_single, SINGLE_FILES),
)
WHY = (
    Option(("--json",), "as_json", FLAG, None, "One JSON document."),
    Option(("-v", "--verbose"), "verbose", FLAG, None, "Every step, near misses, captures, all fixes."),
    Option(("-q", "--quiet"), "quiet", FLAG, None, "The verdict line only."),
    Option(("--expect",), "expect", MANY, "WHAT", "delivered | dropped | 'rule nat:POSTROUTING:3' | 'snat A' | 'dnat A:P' | "
           "'out IFACE' | reply: why it did not happen (status 1)."),
    Option(("--symptom",), "symptom", ONE, "WORDS", "The trouble in your words ('no reply', 'connection refused', "
           "'works for a minute' …): what it can come from, each possibility tested."),
    Option(("--set",), "set_", MANY, "SYSCTL=VALUE", "What if this sysctl were different (… at HOST)."),
    Option(("--add",), "add", MANY, "RULE", "What if 'iptables -t nat -A …' had been run."),
    Option(("--insert",), "insert", MANY, "RULE", "The same with -I."),
    Option(("--delete",), "delete", MANY, "RULE", "The same with -D."),
    Option(("--route",), "route", MANY, "ROUTE", "What if 'ip route add …' had been run."),
    Option(("--rule",), "rule", MANY, "RULE", "What if 'ip rule add …' had been run."),
    Option(("--conntrack-flush",), "conntrack_flush", FLAG, None, "What if the conntrack tables were empty."),
    Option(("--without",), "without", MANY, "FILE", "As if this file were not in the snapshot."),
    Option(("--strict",), "strict", FLAG, None, "Read and validate every rule, reached or not."),
    Option(("--persistent",), "persistent", FLAG, None, "With each fix, the lines that keep it over a reboot."),
    Option(("--rollback",), "rollback", FLAG, None, "Only the fix, as a shell script that takes itself back unless confirmed."),
    Option(("--wait",), "wait", NUMBER, "SECONDS", "After how long --rollback takes it back (60).", 86400),
    Option(("--lab",), "lab", FLAG, None, "Try the fix in network namespaces with the real kernel first (root)."),
    Option(("--fix",), "fix", NUMBER, "N", "Which of the fixes that work --rollback and --lab take (1).", 99),
    Option(("--no-fixes",), "no_fixes", FLAG, None, "Do not look for fixes."),
    Option(("--html",), "html", ONE, "FILE", "Write the answer as a page of its own, no network needed (- = standard output)."),
    Option(("--svg",), "svg", ONE, "FILE", "The picture of the page alone."),
    Option(("--mermaid",), "mermaid", MAYBE, "[FILE.mmd]", "The way as a Mermaid flowchart, to FILE or standard output."),
    Option(("--dot",), "dot", MAYBE, "[FILE.dot]", "The same for Graphviz."),
    Option(("--markdown",), "markdown", MAYBE, "[FILE.md]", "The answer as Markdown for a ticket."),
    Option(("--plain",), "plain", FLAG, None, "ASCII only: no colour, no symbols."),
    Option(("--no-pager",), "no_pager", FLAG, None, "Never through $PAGER, however long the answer."),
    Option(("--sample",), "sample", NUMBER, "N", "How many other flows to try for side effects.", 10000),
)  # fmt: skip


def spelled(arguments: list[str]) -> list[str]:
    """Arguments in which every option that may be without its FILE has a value: the word behind it, if that ends like
    such a file, or ``-`` for standard output."""
    endings = {f"--{name}": DOCUMENTS[name] for name in (o.key for o in WHY if o.kind == MAYBE)}
    out: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*out, word, *words]
        if word in endings:
            found = words.pop(0) if words and words[0].endswith(endings[word]) and words[0][:1] != "-" else "-"
            word = f"{word}={found}"
        out.append(word)
    return out
