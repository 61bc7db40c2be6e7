"""The access list of docs/wire-protocol.md on mosquitto, and what users without rights see."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labd.client.lab_client import LabClient
from labd.core.errors import LabdError
from labd.mqtt.link import MqttLink
from tests.system.lab import REPO

from .conftest import MOSQUITTO, free_port, mosquitto

PASSWORDS = {"labd": "pa/ss@labd", "alice": "alice-secret", "bob": "bob-secret"}
PASSWORDS |= {name: f"{name}-secret" for name in ("guest", "writer", "reader")}
WEAK = """
user writer
topic write labd/#
user reader
topic read labd/#
"""
STATIONS = """
[lab]
name = "lab"
state = "state"
[broker]
url = "{url}"
[[station]]
name = "s1"
board = "nucleo-l4r5zi"
dut = {{ driver = "serial-dut", port = "/dev/labd-test-no-such-port" }}
"""

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        MOSQUITTO is None or shutil.which("mosquitto_passwd") is None,
        reason="mosquitto is not installed",
    ),
]


@dataclass
class Site:
    """A broker with the documented access list, and the folder of a lab that uses it."""

    folder: Path
    port: int

    @property
    def log(self) -> Path:
        return self.folder / "labd.log"

    def url(self, user: str) -> str:
        password = PASSWORDS[user].replace("/", "%2F").replace("@", "%40")
        return f"mqtt://{user}:{password}@127.0.0.1:{self.port}"

    def serve(self, user: str = "labd") -> subprocess.Popen[bytes]:
        config = self.folder / "stations.toml"
        config.write_text(STATIONS.format(url=self.url(user)))
        command = [sys.executable, "-m", "labd.cli.labd", "serve", "--config", str(config)]
        with self.log.open("ab") as stream:
            return subprocess.Popen(command, stderr=stream, cwd=self.folder)

    async def ready(self) -> None:
        """Wait until the daemon answers alice."""
        for _ in range(100):
            try:
                async with LabClient(self.url("alice"), "lab", "alice") as client:
                    await client.list_stations()
            except LabdError:
                continue
            return
        raise AssertionError(self.log.read_text())

    def start_labctl(self, user: str, *arguments: str) -> subprocess.Popen[str]:
        """Start labctl as a user of the broker."""
        return subprocess.Popen(
            [sys.executable, "-m", "labd.cli.labctl", "--broker", self.url(user), *arguments],
            env={key: value for key, value in os.environ.items() if "LABD_" not in key},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def labctl(self, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run labctl as a user of the broker."""
        with self.start_labctl(user, *arguments) as process:
            try:
                output, errors = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def write_passwords(file: Path) -> None:
    for user, password in PASSWORDS.items():
        subprocess.run(["mosquitto_passwd", "-b", str(file), user, password], check=True)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path, free_port())
    document = (REPO / "docs" / "wire-protocol.md").read_text()
    recipe = re.search(r"```\n(# mosquitto\.conf: .*?)```", document, re.DOTALL)
    assert recipe is not None
    rules, passwords = tmp_path / "acl", tmp_path / "passwords"
    rules.write_text(recipe[1] + WEAK)
    passwords.touch()
    for file in (rules, passwords):
        file.chmod(0o600)
    write_passwords(passwords)
    config = tmp_path / "mosquitto.conf"
    root = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(
        f"{root}listener {made.port} 127.0.0.1\nallow_anonymous false\n"
        f"password_file {passwords}\nacl_file {rules}\nmax_queued_messages 100000\n"
    )
    async with mosquitto(config, made.port):
        yield made


async def test_the_documented_access_list_serves_users_and_guards_names(site: Site) -> None:
    daemon = site.serve()
    try:
        await site.ready()
        listed = site.labctl("alice", "stations", "--json")
        assert listed.returncode == 0, listed.stderr
        assert [each["station"] for each in json.loads(listed.stdout)] == ["s1"]
        refused = site.labctl("bob", "submit", "no-such-benchmark")
        assert refused.returncode == 2
        assert "not in the suite" in refused.stderr
        link = MqttLink(site.url("alice"), "bare")  # a bare client sees the lab
        async with link, link.subscribe("labd/lab/station/+") as inbox:
            assert b'"s1"' in (await anext(inbox)).payload
        other = site.labctl("bob", "--user", "alice", "submit", "digits01", "--job", "j-1")
        assert other.returncode == 7
        assert "online" in other.stderr
        assert "does not answer user alice" in other.stderr
        assert "publish to labd/lab/u/alice/do/submit" in other.stderr
        assert "j-1" in other.stderr
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0
    log = site.log.read_text()
    assert "labd@127.0.0.1" in log
    assert PASSWORDS["labd"] not in log
    assert "pa%2Fss" not in log


async def test_a_request_of_yesterday_has_no_effect(site: Site) -> None:
    daemon = site.serve()
    await site.ready()
    daemon.terminate()
    assert daemon.wait(30) == 0
    away = site.labctl("alice", "submit", "digits01", "--modes", "accuracy")
    assert away.returncode == 7
    assert re.search(
        r"job digits01-[0-9a-f]{8}: the daemon of lab 'lab' .* is offline", away.stderr
    )
    assert re.search(r"safe to send it again for job digits01-[0-9a-f]{8}\)", away.stderr)
    waiting = site.start_labctl("alice", "submit", "digits01", "--modes", "accuracy")
    await asyncio.sleep(2.0)
    waiting.send_signal(signal.SIGINT)
    _, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert re.search(r"job (digits01-\S+) may be queued all the same \(labctl cancel \1\)", errors)
    old = {"client": "c", "request": "r", "job": "old", "benchmark": "digits01"}
    old["expires_ns"] = time.time_ns() - 1  # type: ignore[assignment]
    link = MqttLink(site.url("alice"), "alice-bare")
    async with link, link.subscribe("labd/lab/u/alice/re/c") as inbox:
        await link.publish_message("labd/lab/u/alice/do/submit", json.dumps(old).encode())
        daemon = site.serve()
        try:
            reply = json.loads((await anext(inbox)).payload)
        finally:
            daemon.terminate()
            assert daemon.wait(30) == 0
    assert (reply["ok"], reply["code"], reply["job"]) == (False, "request-expired", "old")
    assert "compare the clocks" in reply["text"]


def test_a_broker_without_the_lab_is_named(site: Site) -> None:
    asked = site.labctl("alice", "--lab", "elsewhere", "jobs")
    assert asked.returncode == 7
    assert "the broker knows no daemon of it" in asked.stderr


@pytest.mark.parametrize("user", ["guest", "writer", "reader"])
def test_a_daemon_without_rights_ends_before_it_is_ready(site: Site, user: str) -> None:
    daemon = site.serve(user)
    assert daemon.wait(60) == 2
    log = site.log.read_text()
    assert "does not return what labd publishes to" in log
    assert "labd/lab/u/labd/do/stations (requests)" in log
    assert re.search(r"labd/lab/u/labd/re/\w+-probe \(replies\)", log)
    may_read_states = user == "writer"  # by the patterns for everybody
    assert ("labd/lab/station/s1 (station state)" in log) is not may_read_states
    assert f"let user {user} read and write labd/lab/#" in log
    assert " ready " not in log
    assert "Traceback" not in log
