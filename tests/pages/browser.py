"""A headless Chromium of one's own: an empty profile, no background traffic, its console and its requests on record."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
WAIT = 10  # seconds that a condition may take at most


QUESTIONS: dict[str, tuple[str, str, dict[str, str]]] = {
    "twice": ("twice-through-conntrack", "icmp 10.10.1.1 -> 8.8.8.8 at client", {}),
    "uplinks": ("two-uplinks", "172.31.26.176 -> 203.0.113.9", {}),
    "forward": ("private-namespace", "114.114.114.114 at private", {}),
    "never": ("private-namespace.no-route", "114.114.114.114 at private", {}),
    "users": ("per-user-source", "8.8.8.8 uid userB at host", {}),
    "whatif": ("private-namespace", "114.114.114.114 at private", {"set": "net.ipv4.ip_forward=1 at host"}),
}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that is gone afterwards, with its profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    profile = tempfile.mkdtemp(prefix="nattrace-page-")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or "chromedriver"))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


class Browser:
    """What the tests do with it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, where: str | Path, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        self.size(width, height)
        self.media(scheme)
        self.console(), self.requests()
        self.driver.get(where if isinstance(where, str) else where.as_uri())
        self.until("return document.documentElement.dataset.ready === 'yes'")

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def media(self, scheme: str, medium: str = "") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: Any) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, WAIT, poll_frequency=0.02).until(
            lambda d: d.execute_script(script, *arguments)
        )

    def keys(self, *keys: str) -> None:
        """To whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        from selenium.webdriver.common.by import By

        element = next(e for e in self.driver.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed())
        element.click()

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last time."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def low_contrast(self, least: float = 4.5) -> list[str]:
        """Visible texts whose contrast with what is behind them is below WCAG 2.2's AA."""
        return list(self.js(CONTRAST, least))


CONTRAST = r"""
const least = arguments[0];
const rgb = (text) => { const n = text.match(/[\d.]+/g).map(Number); return { r: n[0], g: n[1], b: n[2], a: n.length > 3 ? n[3] : 1 }; };
const linear = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const light = (c) => 0.2126 * linear(c.r) + 0.7152 * linear(c.g) + 0.0722 * linear(c.b);
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const paper = rgb(getComputedStyle(document.body).backgroundColor);
function behind(element) {
  for (let e = element; e && e !== document.documentElement; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (c !== "transparent" && rgb(c).a === 1) return rgb(c);
  }
  return paper;
}
function behindInPicture(text) {  // the last filled shape drawn before it whose box holds the text's middle
  const at = text.getBoundingClientRect(), x = (at.left + at.right) / 2, y = (at.top + at.bottom) / 2;
  let found = paper;
  for (const rect of text.closest("svg").querySelectorAll("rect")) {
    if (rect.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_PRECEDING) break;
    const b = rect.getBoundingClientRect(), fill = getComputedStyle(rect).fill;
    if (fill !== "none" && b.left <= x && x <= b.right && b.top <= y && y <= b.bottom) found = rgb(fill);
  }
  return found;
}
const bad = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walker.nextNode());) {
  const element = node.parentElement;
  if (!node.textContent.trim() || ["SCRIPT", "STYLE", "TITLE", "title"].includes(element.tagName) || !element.getClientRects().length) continue;
  const style = getComputedStyle(element), svg = element.closest("svg");
  if (style.visibility === "hidden" || element.disabled) continue;
  const found = ratio(rgb(svg ? style.fill : style.color), svg ? behindInPicture(element) : behind(element));
  if (found < least) bad.push(`${found.toFixed(2)} ${node.textContent.trim().slice(0, 40)}`);
}
return bad;
"""
