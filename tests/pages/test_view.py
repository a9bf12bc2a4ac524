"""``nattrace view`` in a real browser, and what its server refuses."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import nattrace as nt
import pytest
from nattrace.tracer.desk import Desk
from nattrace.tracer.view import LONGEST_BODY, Server
from pages.browser import Browser
from selenium.webdriver.common.keys import Keys

FLOW = "114.114.114.114 at private"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server(Desk(nt.load("private-namespace")._world, "private-namespace"))
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


# ------------------------------------------------------------------------------------------- in the browser


def asked(browser: Browser, number: int) -> None:
    browser.until("return document.querySelector('.answers').dataset.asked === arguments[0]", str(number))


def test_a_flow_a_change_and_both_side_by_side(browser: Browser, server: Server) -> None:
    browser.open(server.url)
    browser.click("#flow")
    browser.keys(FLOW, Keys.ENTER)
    asked(browser, 1)
    assert browser.text(".verdict h2").startswith("DROPPED at host")
    browser.js("document.querySelector('#kind').value = 'set'; document.querySelector('#at').value = 'host'")
    browser.click("#change")
    browser.keys("net.ipv4.ip_forward=1", Keys.ENTER)
    asked(browser, 2)
    verdicts = browser.js("return [...document.querySelectorAll('.verdict h2')].map(e => e.textContent)")
    assert [v.split()[0] for v in verdicts] == ["DROPPED", "LEAVES:"]
    columns = browser.js(
        "return [...document.querySelectorAll('.answers > div')].map(e => e.getBoundingClientRect().top)"
    )
    assert len(set(columns)) == 1
    assert browser.low_contrast() == []
    browser.click(".changes button")
    asked(browser, 3)
    assert browser.js("return document.querySelectorAll('.answers article').length") == 1
    assert browser.console() == []
    assert all(url.startswith((f"http://127.0.0.1:{server.server_port}/", "data:")) for url in browser.requests())


def test_tables_are_looked_through_and_a_rule_is_tried_without(browser: Browser, server: Server) -> None:
    browser.open(server.url)
    browser.click("#flow")
    browser.keys(FLOW)
    browser.click("button[data-table=rules]")
    browser.until("return document.querySelector('.tables .scroll').dataset.shown === 'rules '")
    assert "-j SNAT" in browser.text(".tables tbody")
    browser.click(".tables tbody button")
    asked(browser, 1)
    assert browser.text(".changes code").startswith("delete -t nat POSTROUTING 1 at host")
    browser.click("button[data-table=sysctl]")
    browser.click("#text")
    browser.keys("ip_forward")
    browser.until("return document.querySelector('.tables .scroll').dataset.shown === 'sysctl ip_forward'")
    assert browser.js("return document.querySelectorAll('.tables tbody tr').length") in range(1, 10)
    for name in ("hosts", "routes", "policy", "conntrack", "sockets"):
        browser.js("document.querySelector('#text').value = ''")
        browser.click(f"button[data-table={name}]")
        browser.until("return document.querySelector('.tables .scroll').dataset.shown === arguments[0]", f"{name} ")
    assert browser.console() == []


def test_a_mistake_is_said_and_the_page_goes_on(browser: Browser, server: Server) -> None:
    browser.open(server.url)
    browser.click("#flow")
    browser.keys("nonsense flow here", Keys.ENTER)
    browser.until("return document.querySelector('.problem').textContent !== ''")
    browser.js("document.querySelector('#flow').value = ''")
    browser.click("#flow")
    browser.keys(FLOW, Keys.ENTER)
    asked(browser, 2)
    assert browser.text(".problem") == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_and_named_on_a_phone(browser: Browser, server: Server, scheme: str) -> None:
    browser.open(server.url, 360, scheme=scheme)
    browser.click("#flow")
    browser.keys(FLOW, Keys.ENTER)
    asked(browser, 1)
    assert browser.js("return document.documentElement.scrollWidth") <= 360
    assert browser.low_contrast() == []
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = [n for n in tree if n.get("role", {}).get("value") in ("button", "textbox", "combobox", "checkbox")]
    assert len(controls) > 15
    assert [n for n in controls if not n.get("name", {}).get("value")] == []


# -------------------------------------------------------------------------------------------- what it refuses


def talk(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
    line = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    line.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = line.getresponse()
    text = answer.read()
    line.close()
    return answer.status, answer.headers, text


def question(server: Server, asked: Any, **headers: str) -> tuple[int, Any, Any]:
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return talk(server, "POST", f"/{server.token}/why", body, **{"Content_Type": "application/json", **headers})


def test_only_who_has_the_token_gets_anything(server: Server) -> None:
    for path in (
        "/",
        "/x/",
        f"/{server.token[:-1]}/",
        f"/{server.token}x/",
        "/%00/",
        "//",
        f"/x/{server.token}/",
        "/%C3%A9/",
    ):
        assert talk(server, "GET", path)[0] == 403, path
    assert talk(server, "GET", f"/{server.token}/")[0] == 200
    assert talk(server, "GET", f"/{server.token}/../../etc/passwd")[0] == 404
    assert len(server.token) >= 32


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Host": "127.0.0.1"}, {"Host": "127.0.0.1:1"}, {"Origin": "http://evil.example"},
                                     {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}])  # fmt: skip
def test_other_hosts_and_origins_are_refused(server: Server, headers: dict[str, str]) -> None:
    assert question(server, {"flow": FLOW}, **headers)[0] == 403
    assert talk(server, "GET", f"/{server.token}/", **headers)[0] == 403


def test_nothing_may_be_shared_framed_or_kept(server: Server) -> None:
    status, headers, _ = talk(server, "GET", f"/{server.token}/")
    assert status == 200
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "nosniff" in headers["X-Content-Type-Options"]


def test_requests_have_bounds(server: Server) -> None:
    assert talk(server, "POST", f"/{server.token}/why", b"{}", Content_Type="text/plain")[0] == 415
    assert question(server, b"x" * (LONGEST_BODY + 1))[0] == 413
    assert question(server, b"{")[0] == 400
    assert question(server, b"[" * 60_000)[0] == 400
    for asked in ([], {}, {"flow": 7}, {"flow": "x" * 5000}, {"flow": FLOW, "edits": [{}] * 51}, {"flow": FLOW, "edits": "x"},
                  {"flow": FLOW, "edits": [{"kind": "without", "text": "/etc/passwd"}]}, {"flow": "nonsense", "edits": []}):  # fmt: skip
        status, _, text = question(server, asked)
        assert status == 422, asked
        assert json.loads(text)["error"]
    assert talk(server, "DELETE", f"/{server.token}/")[0] == 501
    assert talk(server, "GET", f"/{server.token}/table?name=passwd")[0] == 422
    assert question(server, {"flow": FLOW})[0] == 200


def test_it_listens_on_the_loopback_address_only(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_ctrl_c_ends_it_cleanly() -> None:
    words = [
        sys.executable,
        "-c",
        "from nattrace.tracer.cli import main; main()",
        "view",
        "private-namespace",
        "--no-browser",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=10)
    assert running.returncode == 130
    assert "Traceback" not in errors


def test_its_address_as_json() -> None:
    from jsonschema import Draft202012Validator
    from nattrace.sim.render.schema import SCHEMAS

    words = [
        sys.executable,
        "-c",
        "from nattrace.tracer.cli import main; main()",
        "view",
        "private-namespace",
        "--no-browser",
        "--json",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        document = json.loads(running.stdout.readline())
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=10)
    Draft202012Validator(SCHEMAS["view"]()).validate(document)
    assert document["url"].startswith("http://127.0.0.1:")
