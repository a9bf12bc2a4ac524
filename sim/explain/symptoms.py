"""A flow's trouble in its user's words: what it can come from, each possibility tested by simulation.

``no reply``, ``connection refused``, ``works from outside, not from inside`` …: a symptom knows phrases that people use and
hypotheses. A hypothesis plays a variant of the flow (another size, origin, protocol, time, a further packet, without the
entries) and says what came out; the ones that explain the symptom come first.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import InputError
from ..record import NamedTuple, dataclass, field
from .parts import Diagnosis
from .trial import Trial


class Hypothesis(NamedTuple):
    """``code``: of the reasons; ``text``: what would explain the symptom, or does not; ``tested``: what was simulated.

    ``cure``: the trial whose obstacle has to be overcome, where that is another one than the flow's.
    """

    code: str
    explains: bool
    text: str
    tested: str
    cure: Trial | None = None
    fixes: tuple[Any, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "explains": self.explains, "text": self.text, "tested": self.tested}


class Symptom(NamedTuple):
    """``phrases``: sets of words (see :func:`words_of`), each enough to recognise it."""

    name: str
    phrases: tuple[str, ...]


SYMPTOMS = (
    Symptom("works from outside, not from inside", (
        "outside not inside", "internet not lan", "outside inside", "hairpin", "nat loopback", "not inside", "external internal",
        "external not internal", "wan lan",
    )),
    Symptom("works for a minute", (
        "works minute", "works while", "works then", "stops after", "drops after", "dies after", "hangs after", "disconnects",
        "idle", "minute", "works first later",
    )),
    Symptom("ping works, tcp does not", (
        "ping tcp", "ping http", "ping ssh", "ping not", "icmp tcp", "ping https", "ping web", "small works big", "small large",
        "ping works",
    )),
    Symptom("only the first packet", (
        "only first", "first packet", "one packet", "works once", "first works", "second packet", "only once", "counter one",
    )),
    Symptom("connection refused", ("refused", "econnrefused", "port unreachable", "reset", "rst")),
    Symptom("no reply", (
        "not reply", "timeout", "hangs", "nothing back", "nothing", "unreachable", "not work", "lost", "silence",
        "not connect", "not reach", "100% loss",
    )),
)  # fmt: skip
_SAME = {
    "answer": "reply", "answers": "reply", "response": "reply", "responses": "reply", "respond": "reply", "responds": "reply",
    "replies": "reply", "no": "not", "doesnt": "not", "dont": "not", "isnt": "not", "cannot": "not", "cant": "not",
    "never": "not", "without": "not", "fails": "not", "timed": "timeout", "times": "timeout", "time-out": "timeout",
    "hang": "hangs", "stuck": "hangs", "stalls": "hangs", "hung": "hangs", "working": "works", "work": "works", "ok": "works",
    "okay": "works", "fine": "works", "minutes": "minute", "seconds": "minute", "hour": "minute", "hours": "minute",
    "external": "external", "internal": "internal", "within": "inside", "packets": "packet", "pings": "ping", "refuse": "refused",
    "refuses": "refused", "disconnected": "disconnects", "disconnect": "disconnects", "freezes": "hangs", "icmp": "ping",
    "large": "big", "bigger": "big", "stop": "stops", "dropped": "drops", "drop": "drops", "silent": "silence", "comes": "back",
    "returns": "back", "return": "back", "connects": "connect", "reached": "reach", "reachable": "reach", "afterwards": "after",
    "website": "web", "public": "outside", "home": "inside", "local": "inside",
}  # fmt: skip


def words_of(text: str) -> list[str]:
    """The words of a symptom, spelled alike."""
    plain = re.sub(r"n['’]t\b", " not", text.lower())
    return [_SAME.get(w, w) for w in re.findall(r"[a-z0-9%]+(?:-out)?", plain)]


def understand(text: str) -> Symptom:
    """The symptom that a text means. Raises InputError with the list."""
    words = words_of(text)
    for symptom in SYMPTOMS:
        if text.strip().lower() == symptom.name:
            return symptom
    best: tuple[int, Symptom] | None = None
    for symptom in SYMPTOMS:
        for phrase in symptom.phrases:
            wanted = [_SAME.get(w, w) for w in phrase.split()]
            if _in_order(wanted, words) and (best is None or len(wanted) > best[0]):
                best = (len(wanted), symptom)
    if best is None:
        known = "; ".join(f"'{s.name}'" for s in SYMPTOMS)
        raise InputError(f"--symptom {text!r} is not understood", remedy=f"one of: {known}, or words like these")
    return best[1]


def _in_order(wanted: list[str], words: list[str]) -> bool:
    rest = iter(words)
    return all(any(w == have for have in rest) for w in wanted)


@dataclass(slots=True)
class Finding:
    """What was asked, what it was taken for, and the hypotheses, those that explain it first."""

    text: str
    symptom: Symptom
    hypotheses: list[Hypothesis] = field(default_factory=list)

    @property
    def explained(self) -> list[Hypothesis]:
        return [h for h in self.hypotheses if h.explains]

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "symptom": self.symptom.name,
            "explained": bool(self.explained),
            "hypotheses": [h.to_json() for h in self.hypotheses],
        }


def examine(trial: Trial, text: str, found: list[Diagnosis]) -> Finding:
    """Test everything that a symptom can come from. ``found``: what was diagnosed about the flow itself."""
    from .hypotheses import TESTS

    symptom = understand(text)
    tested = [h for test in TESTS[symptom.name] for h in test(trial, found)]
    return Finding(text, symptom, sorted(tested, key=lambda h: not h.explains))
