"""Examples for ``--help``, the manual and the reference, command by command; the tests run them."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "why": (
        "nattrace why 'icmp 10.10.1.1 -> 8.8.8.8 at client' -S twice-through-conntrack",
        "nattrace why 8.8.8.8                      # sent by this host, read live",
        "nattrace why '114.114.114.114 at private' -S private-namespace --set 'net.ipv4.ip_forward=1 at host'",
        "nattrace why '114.114.114.114 at private' -S private-namespace --symptom 'no reply'",
        "nattrace why '114.114.114.114 at private' -S private-namespace --rollback > change.sh",
        "nattrace why '192.168.100.1 -> 192.168.100.3' -S nonexistent-address --html answer.html",
        "nattrace why '8.8.8.8 uid userB at host' -S per-user-source --markdown > ticket.md",
    ),
    "simulate": (
        """echo '{"host": "private", "dst": "114.114.114.114"}' | nattrace simulate -S private-namespace --replies""",
    ),
    "snapshot": (
        "nattrace snapshot router.tar.gz",
        "nattrace snapshot --anonymize report.tar.gz",
        "nattrace snapshot --script > collect.sh",
    ),
    "lab": (
        "nattrace lab up twice-through-conntrack --name demo",
        "nattrace lab list",
        "nattrace lab down demo",
        "nattrace lab run --on client twice-through-conntrack ping -c 1 10.10.1.2",
    ),
    "lab up": ("nattrace lab up twice-through-conntrack --name demo",),
    "lab down": ("nattrace lab down demo",),
    "lab list": ("nattrace lab list",),
    "lab run": ("nattrace lab run --on client twice-through-conntrack ping -c 1 10.10.1.2",),
    "view": (
        "nattrace view twice-through-conntrack",
        "nattrace view router.tar.gz --port 8080 --no-browser",
    ),
    "tour": ("nattrace tour", "nattrace tour --scenario private-namespace"),
    "doctor": ("nattrace doctor", "nattrace doctor --json"),
    "explain": ("nattrace explain", "nattrace explain rp_filter"),
    "schema": ("nattrace schema why", "nattrace schema --reasons"),
    "completion": (
        "nattrace completion bash > ~/.local/share/bash-completion/completions/nattrace",
        "nattrace completion zsh > ~/.zfunc/_nattrace       # a directory of $fpath",
        "nattrace completion fish > ~/.config/fish/completions/nattrace.fish",
    ),
}


def epilog(name: str) -> str | None:
    """The examples of a command as click prints them unchanged."""
    lines = EXAMPLES.get(name)
    return None if lines is None else "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
