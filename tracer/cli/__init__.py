"""The command line: its commands by name, and the one place that turns errors into words and an exit status."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, NoReturn

# name: (module, attribute, help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "why": ("why", "why", "What happens to a flow, hop by hop, and why."),
    "what": ("what", "what", "What the host must have done to the packets of a capture."),
    "snapshot": ("snapshot", "snapshot", "Capture this host, or network namespaces, into a snapshot."),
    "simulate": ("simulate", "simulate", "packets.jsonl in, results.jsonl out; conntrack state carried over."),
    "trace": ("trace", "trace", "Live: what the kernel does to the packets of a flow."),
    "confirm": ("confirm", "confirm", "Live: predict, observe, and say hook by hook whether the kernel agreed."),
    "watch": ("watch", "watch", "Live: keep confirming every new connection until stopped."),
    "lab": ("lab", "lab", "Build a topology in network namespaces on this machine."),
    "view": ("view", "view", "A local page to try flows and changes."),
    "doctor": ("doctor", "doctor", "What this kernel and this machine allow, and what to install."),
    "explain": ("explain", "explain", "What a reason code means, how it shows, how to cure it."),
    "schema": ("schema", "schema", "The JSON Schema of every machine-readable output."),
    "tour": ("tour", "tour", "The five situations, step by step."),
    "completion": ("completion", "completion", "The script that teaches your shell to complete nattrace."),
    "mcp": ("mcp", "mcp", "The same questions over the Model Context Protocol."),
}


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit status and prints errors, never a traceback for bad input."""
    arguments = ["→" if word == "->" else word for word in arguments]  # click would take it for an option
    try:
        return _answered(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:
        return _failed(error)


def _answered(arguments: list[str]) -> int:
    if arguments[:1] == ["why"] and "_NATTRACE_COMPLETE" not in os.environ:
        from .quick import understood

        found = understood(arguments[1:])
        if found is not None:
            from .answer import answer

            return answer(*found)
    from .group import invoke

    return invoke(arguments)


def __getattr__(name: str) -> Any:
    if name == "cli":  # the group, for those who ask it for its help
        from .group import cli

        return cli
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _reader_gone() -> int:
    """128 + SIGPIPE, as a shell would say; what is still buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _failed(error: Exception) -> int:
    from nattrace.sim.errors import NattraceError

    if isinstance(error, NattraceError):
        say(f"nattrace: {error}")
        return error.exit_code
    if isinstance(error, OSError) and error.strerror is not None:
        say(f"nattrace: {'' if error.filename is None else f'{error.filename}: '}{error.strerror}")
        return 2
    if isinstance(error, RecursionError | MemoryError):
        say(f"nattrace: the input is too deep or too large ({type(error).__name__})")
        return 2
    if os.environ.get("NATTRACE_DEBUG"):
        raise error
    say(f"nattrace: a fault of nattrace itself: {type(error).__name__}: {error}")
    say("  please report it with the snapshot (nattrace snapshot --anonymize); NATTRACE_DEBUG=1 shows where")
    return 70


def say(text: str) -> None:
    """A diagnostic on standard error, without characters that a terminal would obey."""
    from nattrace.sim.render.style import clean

    lines = [clean(line) for line in text.splitlines()]
    try:
        print("\n".join(lines), file=sys.stderr)
    except (BrokenPipeError, UnicodeEncodeError):
        print("\n".join(lines).encode("ascii", "backslashreplace").decode(), file=sys.stderr)


def main() -> None:
    """Entry point of the ``nattrace`` script."""
    import gc

    if sys.argv[1:2] == ["why"]:  # a short run makes little garbage: looking for it cost a tenth of the time
        gc.set_threshold(300_000, 20, 20)
    else:  # others run for days, and worlds refer to each other in circles
        gc.set_threshold(20_000, 10, 10)
    _open_streams()
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = _reader_gone()
    except OSError as error:
        status = _failed(error)
        _reader_gone()
    gc.freeze()  # else the interpreter looks through everything once more before it ends
    _end(status)


def _end(status: int) -> NoReturn:
    """The end; at once where nobody waits for it, as taking a big world apart object by object serves nobody."""
    import atexit

    watched = sys.getprofile() is not None or sys.gettrace() is not None
    if watched or atexit._ncallbacks() or "threading" in sys.modules:
        sys.exit(status)
    try:
        sys.stderr.flush()
    except OSError:
        pass
    os._exit(status)


def _open_streams() -> None:
    """Standard streams that are there, even where the caller closed them, and never raise for a character."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the next file opened would be taken for one of them
        pass
    os.close(spare)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
