"""The page of an answer in a real browser: it loads alone, can be walked by keyboard, read by all, printed, and is fast."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import nattrace as nt
import pytest
from nattrace.sim.render.html import page
from pages.browser import QUESTIONS, Browser
from selenium.webdriver.common.keys import Keys

BENCH = Path(__file__).resolve().parents[1] / "bench"
VISIBLE_STOPS = "return [...document.querySelectorAll('.way .stop')].filter(s => s.getClientRects().length)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("name", QUESTIONS)
def test_it_loads_alone_and_can_be_read(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    browser.open(pages[name], width, scheme=scheme)
    browser.click("button.open-all")
    assert browser.low_contrast() == []
    assert browser.js("return document.documentElement.scrollWidth") <= width
    assert [u for u in browser.requests() if not u.startswith(("file:", "data:"))] == []
    assert browser.console() == []


def test_a_picture_fits_the_screen_it_is_on(browser: Browser, pages: dict[str, Path]) -> None:
    shown = "return [...document.querySelectorAll('svg.picture')].filter(s => s.getClientRects().length).map(s => s.classList[1])"
    smallest = "return Math.min(...[...document.querySelectorAll('svg.picture')].filter(s => s.getClientRects().length).map(s => 11 * s.clientWidth / s.viewBox.baseVal.width))"
    browser.open(pages["uplinks"], 1280)
    assert browser.js(shown) == ["wide"]
    assert browser.js(smallest) >= 10  # pixels of the smallest letters
    browser.open(pages["uplinks"], 360)
    assert browser.js(shown) == ["tall"]
    assert browser.js(smallest) >= 10


def test_the_way_is_walked_with_the_keyboard_alone(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["twice"])
    for _ in range(40):
        browser.keys(Keys.TAB)
        if browser.js("return document.activeElement.classList.contains('stop')"):
            break
    assert browser.js("return document.activeElement.dataset.steps") == "1 2"
    seen = []
    for _ in range(19):
        browser.keys(Keys.ARROW_RIGHT)
        seen.append(browser.text(".now-text b"))
        number = browser.js("return document.querySelector('details.current').dataset.step")
        assert number in browser.js("return document.activeElement.dataset.steps").split()
    assert [s.split(":")[0] for s in seen] == [f"Step {n} of 19" for n in range(1, 20)]
    browser.keys(Keys.ARROW_RIGHT)
    assert browser.text(".now-text b") == seen[-1]
    ink = "return getComputedStyle(document.body).color"
    assert browser.js("return getComputedStyle(document.activeElement.querySelector('rect')).stroke") == browser.js(ink)
    browser.keys(Keys.HOME)
    assert browser.text(".now-text b") == seen[0]
    browser.keys(Keys.END, Keys.ARROW_LEFT)
    assert "nat POSTROUTING" in browser.text(".now-text")
    browser.keys(Keys.ENTER)
    assert browser.js("return document.activeElement.closest('details').dataset.step") == "18"
    assert browser.js("return document.activeElement.closest('details').open") is True
    assert browser.console() == []


def test_every_control_can_be_reached_and_has_a_name(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["whatif"])
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = [
        n for n in tree if n.get("role", {}).get("value") in ("button", "textbox", "combobox", "link", "region")
    ]
    assert len(controls) > 10
    assert [n for n in controls if not n.get("name", {}).get("value")] == []
    reached = set()
    for _ in range(60):
        browser.keys(Keys.TAB)
        reached.add(
            browser.js(
                "const e = document.activeElement; return e.className.baseVal ?? (e.className || e.dataset.phase || e.tagName)"
            )
        )
    assert {"theme", "stop", "open-all", "SUMMARY", "skip"} <= reached


def test_a_click_shows_the_steps_of_a_box_in_turn(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["twice"])
    box = "[...document.querySelectorAll('svg.wide .stop')].find(s => s.dataset.steps === '7 8')"
    for expected in ("no match: -o enp4s0", "source NAT: none"):
        browser.js(f"{box}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
        assert expected in browser.text(".now-text")


def test_there_and_back(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["uplinks"])
    phases = "return [...document.querySelectorAll('.way .phase')].filter(p => p.getClientRects().length).map(p => p.dataset.phase)"
    assert browser.js(phases) == ["forward"]
    browser.click("button[data-phase=reply]")
    assert browser.js(phases) == ["reply"]
    assert (
        browser.js("return document.querySelector('button[data-phase=reply]').getAttribute('aria-pressed')") == "true"
    )
    browser.click("button[data-move='1']")
    assert browser.text(".now-text b").startswith("Step 1 of ")
    browser.open(pages["forward"])
    assert browser.js("return document.querySelector('button[data-phase=reply]').disabled") is True


def test_the_theme_follows_the_system_until_somebody_chooses(browser: Browser, pages: dict[str, Path]) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    browser.open(pages["twice"], scheme="light")
    light = browser.js(paper)
    browser.media("dark")
    browser.until("return getComputedStyle(document.body).backgroundColor !== arguments[0]", light)
    browser.until("return document.querySelector('.theme').getAttribute('aria-pressed') === 'true'")
    browser.click(".theme")
    assert browser.js(paper) == light
    browser.media("light")
    browser.click(".theme")
    assert browser.js(paper) != light
    assert browser.low_contrast() == []


def test_on_paper_both_ways_and_all_details_are_there_and_no_buttons(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["uplinks"], scheme="dark")
    browser.media("dark", "print")
    visible = "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length).length"
    assert browser.js(visible, "button") == 0
    assert browser.js(visible, ".way .phase") == 2
    assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.low_contrast() == []
    browser.media("light")
    browser.js("dispatchEvent(new Event('beforeprint'))")
    assert browser.js("return document.querySelectorAll('details:not([open])').length") == 0
    browser.js("dispatchEvent(new Event('afterprint'))")
    assert browser.js("return document.querySelectorAll('details[open]').length") == 0
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")


def test_without_script_everything_is_there(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare.html"
    text = pages["uplinks"].read_text()
    bare.write_text(text[: text.index("<script>")] + "<script></script>")
    browser.size(1280, 900)
    browser.driver.get(bare.as_uri())
    shown = "return [...document.querySelectorAll('.way .phase, .steps .phase')].filter(e => e.getClientRects().length).length"
    assert browser.js(shown) == 4
    assert (
        browser.js("return [...document.querySelectorAll('.tools')].filter(e => e.getClientRects().length).length") == 0
    )


HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\"'><svg onload=window.pwned=1>"


def test_what_a_snapshot_says_stays_text(browser: Browser, tmp_path: Path) -> None:
    rules = tmp_path / "rules.txt"
    quoted = HOSTILE.replace('"', '\\"')
    rules.write_text(
        f'*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -d 10.9.9.9/32 -m comment --comment "{quoted}" -j DROP\nCOMMIT\n'
    )
    save = nt.load(None, iptables_save=rules)  # type: ignore[arg-type]
    found = page(save.why("tcp 10.0.0.1 -> 10.9.9.9:80 in eth0")._explanation)
    assert "pwned" in found
    target = tmp_path / "hostile.html"
    target.write_text(found)
    browser.open(target)
    browser.click("button.open-all")
    assert browser.js("return window.pwned === undefined && !document.querySelector('img')") is True
    assert "window.pwned" in browser.text(".steps")
    assert browser.console() == []


def test_the_policy_stops_what_is_not_the_pages_own(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "changed.html"
    target.write_text(
        pages["never"]
        .read_text()
        .replace("</body>", "<script>window.pwned=1</script><img src='http://127.0.0.1:9/x'></body>")
    )
    browser.open(target)
    assert browser.js("return window.pwned") is None
    assert all("Content Security Policy" in line for line in browser.console()[:1])


def test_fifty_thousand_rules_are_a_small_and_fast_page(browser: Browser, tmp_path: Path) -> None:
    sys.path.insert(0, str(BENCH))
    from kube import kube_save

    rules = tmp_path / "kube.txt"
    rules.write_text(kube_save(50_000))
    target = tmp_path / "kube.html"
    flow = "tcp 10.244.1.7 -> 10.96.16.242:8080 in cni0"
    words = [
        sys.executable,
        "-c",
        "from nattrace.tracer.cli import main; main()",
        "why",
        flow,
        "--iptables-save",
        str(rules),
    ]
    subprocess.run([*words, "--html", str(target)], check=True, capture_output=True)
    assert "KUBE-SVC-" in target.read_text()
    assert target.stat().st_size <= 2_000_000
    browser.open(target)
    took = json.loads(browser.js("return JSON.stringify(performance.getEntriesByType('navigation')[0])"))[
        "domInteractive"
    ]
    browser.click("button[data-move='1']")
    now = browser.js("return performance.now()")
    assert browser.text(".now-text b").startswith("Step 1")
    assert took <= 1000, took
    assert now <= 3000, now
