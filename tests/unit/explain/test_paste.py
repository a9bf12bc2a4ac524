"""The forms in which a fix is pasted; the script that takes itself back is run in namespaces of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_support import kernel, unique_prefix
from nattrace.sim.explain.paste import persistent, rollback
from nattrace.sim.explain.whatif import ConntrackDelete, Edit, PolicyRuleEdit, RouteEdit, RuleEdit, SetSysctl
from nattrace.sim.explain.whatif_addr import AddressEdit
from nattrace.sim.explain.whatif_link import HairpinEdit
from nattrace.sim.explain.whatif_move import RuleMove
from nattrace.sim.model.conntrack import Tuple

EDITS: list[Edit] = [
    SetSysctl("h", "net.ipv4.ip_forward", "1"),
    SetSysctl("h", "net.ipv4.conf.lo.rp_filter", "2"),
    RuleEdit("h", "-t nat -A POSTROUTING -o lo -j MASQUERADE"),
    RuleEdit("h", "-D INPUT 1"),
    RuleMove("h", "raw", "OUTPUT", 2, 1, "-p udp -j CT --notrack"),
    RouteEdit("h", "203.0.113.0/24 dev lo"),
    RouteEdit("h", "198.51.100.0/24 dev lo metric 5", "replace"),
    RouteEdit("h", "unreachable 192.0.2.9 table 77", "del"),
    PolicyRuleEdit("h", "from 192.0.2.1 lookup 77"),
    PolicyRuleEdit("h", "priority 110", "del"),
    AddressEdit("h", "192.0.2.77/32", "lo"),
    HairpinEdit("h", "port9"),
]
SET_UP = """
ip link set lo up
ip link add br9 type bridge
ip link add port9 type veth peer name far9
ip link set port9 master br9
ip rule add from 9.9.9.9 to 8.8.8.0/24 lookup 77 priority 110
ip route add 198.51.100.0/24 dev lo metric 5 src 127.0.0.1
ip route add unreachable 192.0.2.9 table 77
iptables -t nat -A POSTROUTING -o eth7 -j MASQUERADE
iptables -A INPUT -s 9.9.9.9 -m comment --comment "two words" -j DROP
iptables -t raw -A OUTPUT -p tcp -j ACCEPT
iptables -t raw -A OUTPUT -p udp -j CT --notrack
"""
STATE = """
for t in nat filter raw; do iptables-save -t $t | grep -v '^[#:]'; done
ip rule; ip route; ip route show table 77; ip addr show dev lo; ip -d link show dev port9 | grep -o "hairpin [a-z]*"
sysctl net.ipv4.ip_forward net.ipv4.conf.lo.rp_filter; sysctl -a 2>/dev/null | grep 'ipv4.conf.*\\.forwarding'
"""


def test_what_outlasts_a_reboot_is_said_for_each_kind_of_change() -> None:
    text = "\n".join(persistent([*EDITS, RuleEdit("h", "-P FORWARD DROP", 10)]))
    assert "echo 'net.ipv4.ip_forward = 1' >> /etc/sysctl.d/90-nattrace.conf" in text
    assert "\niptables-save > /etc/iptables/rules.v4" in text and "\nip6tables-save > /etc/iptables/rules.v6" in text
    assert "#   ip route add 203.0.113.0/24 dev lo" in text and "#   ip rule add from 192.0.2.1 lookup 77" in text


def test_the_legacy_backend_is_saved_by_its_own_program() -> None:
    edit = RuleEdit("h", "-A INPUT -j ACCEPT", 2, "legacy")
    assert "iptables-legacy-save > /etc/iptables/rules.v4" in persistent([edit])
    script = rollback([edit])
    assert "iptables-legacy-save -c -t filter >" in script and "iptables-legacy-restore -w 5 -c <" in script


def test_a_deleted_entry_is_said_not_to_come_back() -> None:
    edit = ConntrackDelete("h", Tuple(2, 17, 0x0A000001, 0x0A000002, 1, 2))
    assert "does not come back" in rollback([edit]) and "nothing to keep" in persistent([edit])[0]


def test_the_script_is_plain_shell() -> None:
    done = subprocess.run(["sh", "-n"], input=rollback(EDITS), text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class TestInANamespace:
    """The script as an administrator would run it."""

    pytestmark = kernel

    @pytest.fixture
    def netns(self) -> Iterator[str]:
        name = unique_prefix("qxrb")
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.inside(name, SET_UP)
        yield name
        subprocess.run(["ip", "netns", "del", name], check=True)

    def inside(self, netns: str, script: str) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", netns, "sh", "-e"], input=script, text=True, capture_output=True, check=True
        )
        return done.stdout

    def start(self, netns: str, edits: list[Edit], home: Path, wait: int) -> subprocess.Popen[str]:
        file = home / "change.sh"
        file.write_text(rollback(edits))
        return subprocess.Popen(
            ["ip", "netns", "exec", netns, "sh", str(file), str(wait)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.STDOUT, start_new_session=True, env=os.environ | {"TMPDIR": str(home)},
        )  # fmt: skip

    def wait_until(self, netns: str, state: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.inside(netns, STATE) == state:
                return True
            time.sleep(0.2)
        return False

    def test_a_confirmed_change_stays(self, netns: str, tmp_path: Path) -> None:
        before = self.inside(netns, STATE)
        run = self.start(netns, EDITS, tmp_path, 2)
        out, _ = run.communicate("yes\n", timeout=20)
        after = self.inside(netns, STATE)
        assert run.returncode == 0 and "Kept." in out, out
        assert after != before and "203.0.113.0/24" in after and "two words" not in after and "110:" not in after
        time.sleep(3)
        assert self.inside(netns, STATE) == after

    def test_without_confirmation_everything_is_as_it_was(self, netns: str, tmp_path: Path) -> None:
        before = self.inside(netns, STATE)
        run = self.start(netns, EDITS, tmp_path, 2)
        out, _ = run.communicate("", timeout=30)
        assert run.returncode == 1 and "it was taken back" in out, out
        assert self.inside(netns, STATE) == before

    def test_it_is_taken_back_when_the_session_dies(self, netns: str, tmp_path: Path) -> None:
        before = self.inside(netns, STATE)
        run = self.start(netns, EDITS, tmp_path, 2)
        assert run.stdout is not None and any("Applied." in line for line in run.stdout)
        os.killpg(run.pid, signal.SIGHUP)
        run.kill()
        run.communicate(timeout=10)
        assert self.wait_until(netns, before, 15)

    def test_a_command_that_fails_takes_back_those_before_it(self, netns: str, tmp_path: Path) -> None:
        before = self.inside(netns, STATE)
        run = self.start(netns, [*EDITS, RuleEdit("h", "-t nat -A POSTROUTING -j NOSUCHTARGET")], tmp_path, 30)
        out, _ = run.communicate("yes\n", timeout=20)
        assert run.returncode == 1 and "everything was taken back" in out, out
        assert self.inside(netns, STATE) == before

    def test_no_is_an_answer(self, netns: str, tmp_path: Path) -> None:
        before = self.inside(netns, STATE)
        run = self.start(netns, EDITS, tmp_path, 30)
        out, _ = run.communicate("no\n", timeout=20)
        assert run.returncode == 1 and "Taken back." in out
        assert self.inside(netns, STATE) == before
