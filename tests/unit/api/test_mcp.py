"""``nattrace mcp`` spoken to by the official SDK's client over standard input and output."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NATTRACE = str(Path(sys.executable).parent / "nattrace")
PING = "icmp 10.10.1.1 -> 8.8.8.8 at client"


def asked(call: Callable[[Any], Any], snapshot: str = "twice-through-conntrack") -> Any:
    from mcp import Client, StdioServerParameters

    async def run() -> Any:
        parameters = StdioServerParameters(command=NATTRACE, args=["mcp", "-S", snapshot])
        async with Client(parameters, read_timeout_seconds=60) as client:
            return await call(client)

    return asyncio.run(run())


def called(name: str, **arguments: Any) -> Any:
    return asked(lambda client: client.call_tool(name, arguments))


def test_every_tool_says_that_it_only_reads() -> None:
    tools = asked(lambda client: client.list_tools()).tools
    assert {t.name for t in tools} == {"overview", "why", "simulate", "explain"}
    assert all(t.annotations.read_only_hint and t.description for t in tools)


def test_why_answers_as_the_command_does() -> None:
    found = called("why", flow=PING).structured_content
    assert found["code"] == "nat_decided_earlier" and found["fixes"][0]["result"] == "works"
    assert found["text"].startswith("NOT TRANSLATED")


def test_a_change_applies_to_a_copy() -> None:
    rule = "-t raw -A PREROUTING -i proxy-veth0 -s 10.10.1.0/24 -j CT --zone-orig 2 at host"
    found = called("why", flow=PING, what_if={"add": [rule]}, expect=["snat 172.16.202.30"]).structured_content
    assert found["expect"][0]["met"] is True


def test_packets_and_codes_and_the_overview() -> None:
    packet = {"host": "client", "in": None, "proto": "udp", "src": None, "dst": "8.8.8.8", "sport": 4000, "dport": 53}
    results = called("simulate", packets=[packet]).structured_content["result"]
    assert results[0]["schema"] == "nattrace/simulate/1" and results[0]["outcome"] == "left"
    assert "ip_forward" in json.dumps(called("explain", code="ip_forward_disabled").structured_content)
    assert "client" in called("overview").structured_content["hosts"]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("why", {"flow": "from here to there"}, "example"),
        ("why", {"flow": PING, "what_if": {"without": ["/etc/passwd"]}}, "unknown change"),
        ("explain", {"code": "nonsense"}, "no code"),
        ("simulate", {"packets": [{"host": "nobody", "dst": "1.1.1.1"}]}, "not in the snapshot"),
    ],
)
def test_a_bad_question_is_a_tool_error_with_words(tool: str, arguments: dict[str, Any], said: str) -> None:
    found = called(tool, **arguments)
    assert found.is_error and said in found.content[0].text and "Traceback" not in found.content[0].text


def test_the_tools_can_be_listed_without_a_client() -> None:
    done = subprocess.run(
        [NATTRACE, "mcp", "-S", "private-namespace", "--list"], capture_output=True, text=True, check=True
    )
    assert {t["name"] for t in json.loads(done.stdout)} == {"overview", "why", "simulate", "explain"}


BUNDLE = Path(__file__).resolve().parents[2] / "data" / "bundles" / "nat-rule-changed.bundle"


def test_a_bundle_that_was_named_is_judged_again() -> None:
    from mcp import Client, StdioServerParameters

    async def run() -> Any:
        words = ["mcp", "-S", "private-namespace", "--bundle", str(BUNDLE)]
        async with Client(StdioServerParameters(command=NATTRACE, args=words), read_timeout_seconds=60) as client:
            names = {t.name for t in (await client.list_tools()).tools}
            return (
                names,
                await client.call_tool("confirm_replay", {}),
                await client.call_tool("confirm_replay", {"bundle": 1}),
            )

    names, found, wrong = asyncio.run(run())
    assert "confirm_replay" in names
    assert found.structured_content["document"]["verdict"] == "disagrees"
    assert found.structured_content["document"]["class"] == "rule_set_changed"
    assert wrong.is_error and "no bundle 1" in wrong.content[0].text
