"""The page of ``nattrace view``: a form for flows and changes, room for the answers, and the snapshot's tables."""

from __future__ import annotations

from ..model.world import World
from .html import THEME_BUTTON, document, page_style
from .svg import resource, safe

KINDS = (
    ("add", "add a rule (iptables -A)", "-t nat POSTROUTING -o eth0 -j MASQUERADE"),
    ("insert", "insert a rule (iptables -I)", "FORWARD 1 -s 10.0.0.0/8 -j ACCEPT"),
    ("delete", "delete a rule (iptables -D)", "-t nat POSTROUTING 1"),
    ("set", "set a sysctl", "net.ipv4.ip_forward=1"),
    ("route", "change a route (ip route)", "add 10.9.0.0/16 via 10.0.0.1"),
    ("rule", "change a policy rule (ip rule)", "add from 10.0.0.0/8 lookup 100 priority 100"),
)
TABLES = ("hosts", "rules", "routes", "policy", "conntrack", "sockets", "sysctl")


def desk_page(name: str, world: World) -> str:
    """The whole document."""
    script = resource("answer.js") + resource("view.js")
    options = "".join(f"<option value='{k}' data-example='{safe(e)}'>{safe(words)}</option>" for k, words, e in KINDS)
    hosts = "".join(f"<option>{safe(host)}</option>" for host in world.hosts)
    tabs = "".join(f"<button type='button' data-table='{t}' aria-pressed='false'>{t}</button>" for t in TABLES)
    body = f"""<header><div class='top'><p class='brand'>nattrace</p><h1>{safe(name)}</h1>{THEME_BUTTON}</div></header>
<main id='main'>
<form class='ask' autocomplete='off'>
<label for='flow'>Flow</label>
<div class='row'><input id='flow' name='flow' required spellcheck='false' placeholder='{safe(_example(world))}'>
<button class='go'>Ask</button></div>
<fieldset><legend>What if …</legend>
<div class='row'><select id='kind' aria-label='kind of change'>{options}</select>
<input id='change' aria-label='the change' spellcheck='false'>
<select id='at' aria-label='on which host'>{hosts}</select><button type='button' class='add'>Add</button></div>
<label class='check'><input type='checkbox' id='flush'> all connection entries deleted (conntrack -F)</label>
<ul class='changes' aria-label='changes'></ul></fieldset>
</form>
<p class='problem' role='alert'></p>
<p class='busy' role='status'></p>
<div class='answers'></div>
<section class='tables'><h3>What the snapshot holds</h3><div class='tools' role='group' aria-label='tables'>{tabs}</div>
<div class='find' hidden><label for='text'>Rows with</label> <input id='text' spellcheck='false'>
<span class='looking' role='status'></span></div>
<div class='scroll' tabindex='0' role='region' aria-label='table'></div>
<div class='tools'><button type='button' class='more' hidden>more rows</button></div></section>
</main>"""
    return document(f"{name} — nattrace", page_style() + resource("view.css"), script, body, connect="'self'")


def _example(world: World) -> str:
    host = next(iter(world.hosts), "")
    return f"tcp 192.168.1.7 -> 1.2.3.4:443 in eth1, or 8.8.8.8 at {host}" if host else "192.168.1.7 -> 1.2.3.4"
