"""One answer as a page of its own: verdict, cause and fixes first, then the picture, every step, the chains that were met.

Nothing is fetched: styles and script are in the page, and its content security policy allows these two by their hash and
forbids everything else. Whatever comes from the snapshot is escaped. Without script the page shows all it has.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ..explain.answer import captures, ends
from ..explain.parts import WORKS
from ..explain.paste import persistent
from .chains import ChainView, met
from .journey import Event, Journey, Pass, journeys
from .notes import notes
from .picture import tall, wide
from .svg import MARKERS, part, resource, safe

if TYPE_CHECKING:
    from ..explain.answer import Explanation
    from ..explain.fixes import Fix

FIELDS = ("src", "sport", "dst", "dport", "icmp_id", "ttl", "mark", "tos", "len")


def page(x: Explanation) -> str:
    """The whole document."""
    style, script = page_style(), resource("answer.js")
    body = f"<header>{_top(x.question.text)}</header>\n<main id='main'>{answer(x)}</main>"
    return document(f"{x.question.text} — nattrace", style, script, body)


def document(title: str, style: str, script: str, body: str, connect: str = "'none'") -> str:
    """A page that runs its own script and style and nothing else."""
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n<meta name='referrer' content='no-referrer'>\n"
        f"<link rel='icon' href='data:,'>\n<title>{safe(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<a class='skip' href='#main'>Skip to the answer</a>\n{body}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def page_style() -> str:
    return "".join(resource(name) for name in ("colours.css", "page.css", "picture.css"))


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


def _top(flow: str) -> str:
    return f"<div class='top'><p class='brand'>nattrace</p><h1><code>{safe(flow)}</code></h1>{THEME_BUTTON}</div>"


THEME_BUTTON = "<button type='button' class='theme' aria-pressed='false'>Dark</button>"


# ---------------------------------------------------------------------------------------------- the answer


def answer(x: Explanation, name: str = "a") -> str:
    """The part of the page that is about one answer. ``name``: prefix of its ids."""
    ways = journeys(x)
    parts = [f"<article class='answer' id='{name}' aria-label='answer'>", *_verdict(x), *_fixes(x)]
    parts += _way(x, ways, name)
    parts += _steps(ways, name)
    parts += _chains(x, ways)
    parts += _captures(x)
    parts += _assumed(x)
    return "\n".join([*parts, "</article>"])


def _good(x: Explanation) -> bool:
    return bool(x.trial.ok and x.trial.leaf.outcome in ("left", "delivered"))


def _verdict(x: Explanation) -> Iterator[str]:
    kind = "good" if _good(x) else "bad"
    sign = "✓" if kind == "good" else "?" if x.verdict.startswith("UNKNOWN") else "✗"
    yield (
        f"<section class='verdict {kind}'><p class='sign' aria-hidden='true'>{sign}</p><div><h2>{safe(x.verdict)}</h2>"
        f"<p class='code'><code>{safe(x.code)}</code></p></div></section>"
    )
    if x.before is not None:
        edits = "".join(f"<li><code>{safe(e)}</code></li>" for e in x.edits)
        yield f"<section class='with'><h3>With</h3><ul>{edits}</ul>"
        yield f"<p><b>Before:</b> {safe(x.before.verdict)} <code>{safe(x.before.code)}</code></p>"
        before = journeys(x.before)[0]
        pictures = part(wide(before), "wide", False) + part(tall(before), "tall", False)
        yield f"<details><summary>The way before the change</summary>{pictures}</details></section>"
    if x.cause:
        yield f"<section class='why'><h3>Why</h3><p>{safe(x.cause)}</p></section>"
    for note in notes(x):
        items = "".join(
            f"<li>{safe(text)}{f' <code>{safe(code)}</code>' if code else ''}</li>" for text, code in note.lines
        )
        yield f"<section class='more'><h3>{safe(note.title)}</h3><ul>{items}</ul></section>"


def _fixes(x: Explanation) -> Iterator[str]:
    works = [f for f in x.fixes if f.result == WORKS]
    failing = [f for f in x.fixes if f.result != WORKS]
    if not x.fixes:
        return
    yield "<section class='fixes'><h3>What cures it</h3>"
    for i, fix in enumerate(works[:2]):
        yield _fix("✓ Fix" if i == 0 else "✓ or", fix, "works")
    rest = [_fix("✓ or", f, "works") for f in works[2:]] + [_fix("✗ does not help", f, "fails") for f in failing]
    if not works:
        yield "<p>No change that was tried makes it work both ways.</p>"
    if rest:
        were = "was" if len(rest) == 1 else "were"
        yield f"<details><summary>{len(rest)} more that {were} tried</summary>{''.join(rest)}</details>"
    yield "</section>"


def _fix(label: str, fix: Fix, kind: str) -> str:
    several = len(fix.hosts) > 1
    typed = "\n".join(f"{host}# {command}" if several else command for host, command in fix.steps())
    sampled = ""
    if fix.flows_sampled:
        sampled = (
            f"; {fix.flows_sampled} other flows sampled, {fix.also_cured} cured too, {len(fix.side_effects)} changed"
        )
    effects = "".join(f"<li>{safe(e)}</li>" for e in fix.side_effects)
    more = f"<details><summary>flows that fare differently</summary><ul>{effects}</ul></details>" if effects else ""
    more += _kept(fix) if kind == "works" else ""
    return (
        f"<div class='fix {kind}'><p class='label'>{label} <span class='on'>on {safe(', '.join(fix.hosts))}</span></p>"
        f"<pre tabindex='0' aria-label='commands'>{safe_lines(typed)}</pre>"
        "<button type='button' class='copy' aria-label='Copy the commands'>Copy</button>"
        f"<p class='note'>re-simulated: {safe(fix.text)}{safe(sampled)}</p>{more}</div>"
    )


def _kept(fix: Fix) -> str:
    """What keeps a change over a reboot, and the form that takes it back unless somebody confirms."""
    kept = "\n".join(persistent(fix.edits))
    parts = [("to keep it over a reboot", kept)] if kept else []
    several = len(fix.hosts) > 1
    scripts = fix.scripts()
    parts.append(
        ("with a way back: undone unless confirmed", "\n".join(f"# on {h}\n{s}" if several else s for h, s in scripts))
    )
    return "".join(
        f"<details class='script'><summary>{title}</summary>"
        f"<pre tabindex='0' aria-label='{title}'>{safe_lines(text)}</pre></details>"
        for title, text in parts
    )


def safe_lines(text: str) -> str:
    return "\n".join(safe(line) for line in text.split("\n"))


# --------------------------------------------------------------------------------------------- the picture


def _way(x: Explanation, ways: list[Journey], name: str) -> Iterator[str]:
    back = len(ways) > 1
    why_not = "" if back else " disabled title='no reply was simulated: the packet does not arrive'"
    yield (
        "<section class='way'><h3>The way through netfilter</h3><div class='tools' role='toolbar' aria-label='picture'>"
        "<button type='button' data-phase='forward' aria-pressed='true'>Forward</button>"
        f"<button type='button' data-phase='reply' aria-pressed='false'{why_not}>Reply</button>"
        "<span class='push'></span><button type='button' data-move='-1' aria-label='previous step'>← back</button>"
        "<button type='button' data-move='1' aria-label='next step'>next →</button></div>"
        "<p class='hint'>Arrow keys walk along the way; Enter shows the step in the list below.</p>"
    )
    yield f"<svg class='defs' aria-hidden='true' width='0' height='0'>{MARKERS}</svg>"
    for journey in ways:
        yield (
            f"<div class='phase' data-phase='{journey.phase}'><h4 class='phase-name'>{journey.phase.capitalize()}</h4>"
            f"{part(wide(journey), 'wide')}{part(tall(journey), 'tall')}</div>"
        )
    yield (
        "<div class='now empty' role='status' aria-live='polite'><p class='now-text'>Choose a box, or press → to walk "
        "through the steps.</p></div></section>"
    )


# ---------------------------------------------------------------------------------------------- every step


def _steps(ways: list[Journey], name: str) -> Iterator[str]:
    yield (
        "<section class='steps'><h3>Step by step</h3><div class='tools'><button type='button' class='open-all' "
        "aria-pressed='false'>Open all</button></div>"
    )
    for journey in ways:
        yield f"<div class='phase' data-phase='{journey.phase}'><h4 class='phase-name'>{journey.phase.capitalize()}</h4>"
        for one in journey.passes:
            yield f"<h4>{safe(one.title)} <span class='dim'>{safe(_through(one))}</span></h4><ol class='list'>"
            for e in one.events:
                yield _event(e, name, one)
            yield "</ol>"
        kind = "good" if journey.good else "bad"
        yield f"<p class='ending {kind}'>{'✓' if journey.good else '✗'} {safe(journey.ending)}</p>"
        yield "".join(f"<p class='ending'>↩ {safe(a)}</p>" for a in journey.answers)
        yield "</div>"
    yield "</section>"


def _through(one: Pass) -> str:
    if one.in_dev is None:
        return f"sent here, out {one.out_dev}" if one.out_dev else "sent here"
    return f"in {one.in_dev}" + (f", out {one.out_dev}" if one.out_dev else "")


def _place(e: Event) -> str:
    step = e.step
    where = f"{step.table} {step.chain}" if step.table and step.chain else step.stage
    return f"{where} {step.rule}" if step.rule else where


def _event(e: Event, name: str, one: Pass) -> str:
    step = e.step
    kind = "wrong" if e.wrong else "decided" if e.mark.tail else "changed" if step.changes.keys() - {"ttl"} else "hit"
    sign = "✗ " if e.wrong else ""
    tail = f" <b class='tail'>{safe(e.mark.tail)}</b>" if e.mark.tail else ""
    rows = []
    if step.text:
        rows.append(("rule" if step.rule else "decision", f"<code>{safe(step.text)}</code>"))
    if step.where:
        rows.append(("from", f"<code>{safe(str(step.where))}</code>"))
    for key, (old, new) in step.changes.items():
        rows.append((safe(key), f"<code>{_value(old)}</code> → <code class='new'>{_value(new)}</code>"))
    if step.conntrack:
        rows.append(("conntrack", safe(step.conntrack)))
    if step.matched is not None:
        rows.append(("match", "✓ matches" if step.matched else f"✗ no match: {safe(step.note or '')}"))
    if step.note and step.matched is not False:
        rows.append(("note", safe(step.note)))
    if step.verdict:
        rows.append(("verdict", f"<code>{safe(str(step.verdict))}</code>"))
    if step.hook:
        rows.append(("hook", f"<code>{safe(step.hook)}</code>"))
    facts = "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in rows)
    return (
        f"<li class='{kind}'><details data-step='{e.number}' id='{name}-step-{e.number}'><summary><span class='number'>"
        f"{e.number}</span> <span class='place'>{safe(_place(e))}</span> <span class='said'>{sign}{safe(e.said or e.brief)}"
        f"{tail}</span></summary><dl>{facts or '<dt>note</dt><dd>nothing more is known of this step</dd>'}</dl></details></li>"
    )


def _value(value: Any) -> str:
    return "none" if value is None else "drawn by the kernel" if isinstance(value, tuple) else safe(str(value))


# ------------------------------------------------------------------------------------------ folded sections


def _chains(x: Explanation, ways: list[Journey]) -> Iterator[str]:
    for journey in ways:
        views = met(x.trial.world, journey)
        if not views:
            continue
        yield (
            f"<section class='chains phase' data-phase='{journey.phase}'><h3>Chains that were met"
            f"<span class='phase-name'> ({journey.phase})</span></h3>"
        )
        for view in views:
            yield _chain(view)
        yield "</section>"


def _chain(view: ChainView) -> str:
    count = "1 rule" if view.rules == 1 else f"{view.rules} rules"
    policy = f", policy {view.policy}" if view.policy else ""
    rows = []
    for shown in view.shown:
        if shown is None:
            rows.append("<tr class='gap'><td colspan='3'>…</td></tr>")
            continue
        said, kind = "", ""
        if shown.event is not None:
            said = "✓ matches" if shown.event.step.matched else f"✗ {shown.event.step.note or 'no match'}"
            said = f"step {shown.event.number}: {said}"
            kind = "yes" if shown.event.step.matched else "no"
        rows.append(
            f"<tr class='{kind}'><td>{shown.number}</td><td><code>{safe(shown.text)}</code> <span class='dim'>"
            f"{safe(shown.where)}</span></td><td>{safe(said)}</td></tr>"
        )
    return (
        f"<details><summary><b>{safe(view.host)}</b> {safe(view.table)} {safe(view.name)} <span class='dim'>{count}"
        f"{safe(policy)}</span></summary><div class='scroll' tabindex='0' role='region' aria-label='rules of {safe(view.name)}'>"
        "<table><thead><tr><th scope='col'>rule</th><th scope='col'>text</th><th scope='col'>this packet</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _captures(x: Explanation) -> Iterator[str]:
    points = captures(x.trial)
    if not points:
        return
    rows = "".join(
        f"<tr><td>{p['phase']}</td><td>{safe(p['host'])}</td><td>{safe(p['interface'])} {p['way']}</td>"
        f"<td><code>{safe(ends(p['packet']))}</code></td><td>{safe(str(p['packet'].get('ttl', '')))}</td></tr>"
        for p in points
    )
    yield (
        "<section><details><summary>What tcpdump shows at each interface</summary><div class='scroll' tabindex='0' "
        "role='region' aria-label='captures'><table><thead><tr><th scope='col'>way</th><th scope='col'>host</th><th scope='col'>"
        "interface</th><th scope='col'>src → dst</th><th scope='col'>ttl</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details></section>"
    )


def _assumed(x: Explanation) -> Iterator[str]:
    items = list(x.assumptions)
    if x.unread:
        items.append(f"{x.unread} rules in chains that the packet does not reach were not read")
    if items:
        inner = "".join(f"<li>{safe(a)}</li>" for a in items)
        yield f"<section><details><summary>{len(items)} assumed or not read</summary><ul>{inner}</ul></details></section>"


__all__ = ["THEME_BUTTON", "answer", "document", "page", "page_style"]
