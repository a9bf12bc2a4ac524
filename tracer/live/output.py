"""Where stories go: text, one line for each event, JSON lines, a pcapng file; and the totals at the end."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ...sim.errors import InputError
from ...sim.render.style import Style, clean, wants_colour, width_of
from .event import KIND

if TYPE_CHECKING:
    from .scene import Scene
    from .story import Story
    from .worlds import Worlds


class Output:
    """``offset``: what turns the events' clock into ns since 1970; None: this machine's."""

    def __init__(
        self, options: dict[str, Any], scene: Scene, worlds: Worlds, hosts: int, offset: int | None = None
    ) -> None:
        self.options, self.scene, self.worlds, self.hosts = options, scene, worlds, hosts
        self.offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC) if offset is None else offset
        self.style, self.width = Style(wants_colour(sys.stdout)), width_of(sys.stdout)
        self.start = 0
        self.pcapng: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> Output:
        path = self.options["pcapng"]
        if path == "-" and (self.options["as_json"] or self.options["events"]):
            raise InputError(
                "standard output is taken by the capture (-w -)", remedy="-w FILE, or without --json and --events"
            )
        if path:
            from .render.pcapng import PcapngWriter

            self.pcapng = PcapngWriter(sys.stdout.buffer if path == "-" else self._file(path), self.scene, self.offset)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _file(self, path: str) -> Any:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            return self._stack.enter_context(os.fdopen(os.open(path, flags, 0o600), "wb"))
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None

    def story(self, story: Story) -> None:
        """One packet, in every form that was asked for. Raises BrokenPipeError when nobody reads any more."""
        why = self.worlds.explain(story)
        self.start = self.start or story.start
        if self.pcapng is not None:
            from .render.text import verdict

            self.pcapng.story(story, verdict(story, why).text)
            if self.options["pcapng"] == "-":
                return
        if self.options["as_json"]:
            self._json(story, why)
        elif self.options["events"]:
            self._events(story)
        else:
            from .render.text import story_text

            quiet, verbose = self.options["quiet"], self.options["verbose"]
            sys.stdout.write(story_text(story, why, self.width, self.style, verbose, quiet))
        sys.stdout.flush()

    def _json(self, story: Story, why: Any) -> None:
        from .render.jsonl import event_line, story_line

        if not self.options["events"]:
            sys.stdout.write(json.dumps(story_line(story, why)) + "\n")
            return
        for each in (story, *story.asides):
            for event in each.events:
                sys.stdout.write(json.dumps(event_line(event, self.scene, story.number)) + "\n")

    def _events(self, story: Story) -> None:
        from .render.text import event_line

        for each in (story, *story.asides):
            for event in each.events:
                line = event_line(event, self.scene, self.start, story.number)
                red = ("red",) if int(event["kind"]) == KIND.drop else ()
                sys.stdout.write(self.style(line, *red) + "\n")

    def totals(self, totals: dict[str, Any]) -> None:
        """Seen, matched, lost by stream: on standard error, or the last JSON line."""
        if self.options["as_json"]:
            from .render.jsonl import totals_line

            sys.stdout.write(json.dumps(totals_line(totals)) + "\n")
            sys.stdout.flush()
            return
        lost = {k: v for k, v in totals["lost"].items() if v}
        count, seen = totals["matched"], totals["seen"]
        told = f"{count} packet{'s' * (count != 1)}, {seen} event{'s' * (seen != 1)} seen"
        told += "; lost: " + ", ".join(f"{v} {k}" for k, v in lost.items()) if lost else ", none lost"
        told += f"; {totals['untold']} came too fast to be told and were only counted" if totals.get("untold") else ""
        rules = totals.get("rules") or {}
        print(f"nattrace: {told}", file=sys.stderr)
        for line in rules.get("notes", []):
            print(f"nattrace: {clean(line)}", file=sys.stderr)
