"""How text reaches the terminal: plain where it is asked for, through a pager where it is longer than the screen."""

from __future__ import annotations

import os
import sys

PAGER = "less -FRX"


def coloured(plain: bool) -> bool:
    """Whether standard output gets colours."""
    from nattrace.sim.render.style import wants_colour

    return not plain and wants_colour(sys.stdout)


def put(text: str, *, plain: bool = False, pager: bool = True) -> None:
    """Write to standard output."""
    if plain:
        from nattrace.sim.render.style import ascii_only

        text = ascii_only(text)
    if pager and _too_long(text) and _paged(text):
        return
    sys.stdout.write(text)


def _too_long(text: str) -> bool:
    """Longer than the terminal; False where there is none on both ends."""
    try:
        if not (sys.stdout.isatty() and sys.stdin.isatty()):
            return False
        return text.count("\n") >= os.get_terminal_size(sys.stdout.fileno()).lines
    except (OSError, ValueError, AttributeError):
        return False


def _paged(text: str) -> bool:
    """Whether a pager took the text. ``PAGER=`` (empty) and ``PAGER=cat`` mean none."""
    import shlex
    import subprocess

    try:
        words = shlex.split(os.environ.get("PAGER", PAGER))
    except ValueError:
        return False
    if not words or words == ["cat"]:
        return False
    try:
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, text=True, encoding="utf-8", errors="backslashreplace"
        ) as found:
            try:
                found.communicate(text)
            except BrokenPipeError:
                pass  # its reader has seen enough
            except KeyboardInterrupt:
                found.wait()  # the pager got it too, and decides
    except OSError:
        return False
    return found.returncode != 127
