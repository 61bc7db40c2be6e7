"""Every command of README.md and docs/ is run against a lab of emulated stations.

What is not run stands in :data:`NOT_RUN` with the reason. docs/official-benchmarks.md has a test
of its own, ``test_official_documentation.py``; paths, options and keys are checked by
``tests/unit/test_documentation.py``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labd.data import bundled
from tests.system.lab import REPO, free_port

pytestmark = pytest.mark.timeout(600)

PAGES = [
    page
    for page in (REPO / "README.md", *sorted((REPO / "docs").rglob("*.md")))
    if page.name != "official-benchmarks.md"
]
NOT_RUN = {
    r"make demo|make test|make lint|make docs": "makes an environment; `labd demo` is run below",
    r"pip install": "downloads packages",
    r"\. \.venv/bin/activate": "the commands are on the path",
    r"make firmware": "needs an official model: test_official_documentation.py runs it",
    r"LABD_DATASETS=path/to/datasets labd serve": "needs an official set: test_official_kws.py",
    r"labctl submit kws01": "needs an official set: test_official_kws.py",
    r"labd demo": "takes a minute: test_the_demonstration_runs",
}
STARTED = re.compile(r"labd serve|labd bench|labd fake \S|mosquitto_sub")
"""Commands that run until they are ended."""

MQTT_CLIENT = """\
import sys
from paho.mqtt import publish, subscribe
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
if "-m" in options:
    publish.single(options["-t"], options["-m"], int(options.get("-q", 0)), port={port})
else:
    topics = [value for key, value in zip(sys.argv[2::2], sys.argv[3::2]) if key == "-t"]
    def show(client, userdata, message):
        print(message.topic, message.payload.decode(), flush=True)
    subscribe.callback(show, topics, port={port})
"""
"""Stands in for mosquitto_pub and mosquitto_sub, whose options it takes."""


def documented_commands(page: Path) -> list[str]:
    """The commands of a page's blocks of the language ``sh``, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [text for line in lines if (text := re.sub(r"(^|\s)#.*$", "", line).strip())]


def why_not_run(command: str) -> str:
    return next((why for what, why in NOT_RUN.items() if re.match(what, command)), "")


@dataclass
class Reader:
    """A reader of the documentation, who has the commands on the path and a lab in a folder."""

    folder: Path
    port: int = field(default_factory=free_port)
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        tools = self.folder / "bin"
        tools.mkdir(parents=True)
        client = self.folder / "client.py"
        client.write_text(MQTT_CLIENT.format(port=self.port))
        programs = {name: f"-m labd.cli.{name}" for name in ("labd", "labctl")}
        programs |= {name: f"{client} {name}" for name in ("mosquitto_pub", "mosquitto_sub")}
        for name, arguments in programs.items():
            (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
            (tools / name).chmod(0o755)

    def configure(self) -> None:
        """Write the stations.toml that comes with labd, with a free port and fast stations."""
        text = bundled("stations.toml").read_text()
        text = text.replace("port = 1883", f"port = {self.port}")
        text = text.replace("emulated = {", 'emulated = { mode = "freeze",')
        text = text.replace("\n[[station]]\n", "\n[[station]]\noff_s = 0.0\n")
        (self.folder / "stations.toml").write_text(text)

    def run(self, command: str, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, command: str, output: str) -> Path:
        """Start a command that runs until it is ended; return the file of what it prints."""
        log = self.folder / output
        with log.open("wb") as stream:
            self.background.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {command}"],
                    cwd=self.folder,
                    env=self.environment(),
                    stdout=stream,
                    stderr=stream,
                )
            )
        return log

    def end(self) -> int:
        """End the command that was started last; return its exit status."""
        process = self.background.pop()
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def environment(self) -> dict[str, str]:
        mine = {key: value for key, value in os.environ.items() if not key.startswith("LABD_")}
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return mine | {"PATH": path, "LABD_BROKER": f"mqtt://127.0.0.1:{self.port}"}

    def wait_for_output(self, log: Path, text: str) -> None:
        end = time.monotonic() + 120
        while not re.search(text, log.read_text(errors="replace")):
            assert time.monotonic() < end, log.read_text(errors="replace")
            assert self.background[-1].poll() is None, log.read_text(errors="replace")
            time.sleep(0.1)

    def job(self, command: str) -> str:
        """A job as the command needs it: one that goes on, or one that has every result."""
        if re.match(r"labctl (trace|cancel|events)", command):
            submitted = self.run("labctl submit digits01 --modes energy --json")
        else:
            submitted = self.run("labctl jobs --state done --json")
        found = json.loads(submitted.stdout)
        whole = found if isinstance(found, dict) else next(j for j in found if len(j["modes"]) == 3)
        return str(whole["job"])

    def fill_in(self, command: str) -> str:
        """Put what exists in place of the documentation's names."""
        if re.search(r"\bJOB\b", command):
            command = re.sub(r"\bJOB\b", self.job(command), command)
        if "path/to" in command or "another/session" in command:
            runs = f"var/traces/{self.job('')}/1"
            command = re.sub(r"path/to/\w+|another/session", runs, command)
        return command if shutil.which("jq") else command.replace("| jq .", "| cat")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path / "reader")
    yield made
    while made.background:
        made.end()


def test_every_documented_command_runs(reader: Reader) -> None:
    reader.configure()
    log = reader.start("labd serve", "serve.log")
    reader.wait_for_output(log, r"\bready\b")
    first = reader.run("labctl submit digits01 --watch")
    assert first.returncode == 0, first.stdout + first.stderr
    failed: list[str] = []
    for command in dict.fromkeys(text for page in PAGES for text in documented_commands(page)):
        if why_not_run(command) or command.startswith(("labd init", "labd serve")):
            continue
        text = reader.fill_in(command).removesuffix("&").strip()
        if STARTED.match(text):
            failed += run_for_a_moment(reader, text)
            continue
        done = reader.run(text)
        if done.returncode:
            failed.append(f"{text}: status {done.returncode}\n{done.stdout}{done.stderr}")
    assert failed == []
    published = reader.run("labctl watch nightly-7")
    assert published.returncode == 0, published.stderr


def run_for_a_moment(reader: Reader, command: str) -> list[str]:
    """Run a command that ends on demand; return what went wrong."""
    log = reader.start(command, "background.log")
    if command.startswith("mosquitto_sub"):
        time.sleep(1)
    else:
        reader.wait_for_output(log, r"\{.*\}")
    still_runs = reader.background[-1].poll() is None
    status = reader.end()
    fine = still_runs and status in {0, -signal.SIGTERM}
    return [] if fine else [f"{command}: status {status}\n{log.read_text()}"]


def test_a_lab_starts_as_documented(reader: Reader) -> None:
    assert reader.run("labd init").returncode == 0
    assert reader.run("labd check").returncode == 0
    reader.configure()
    log = reader.start("labd serve", "serve.log")
    reader.wait_for_output(log, r"\bready\b")
    assert reader.end() == 0


def test_the_demonstration_runs(reader: Reader) -> None:
    done = reader.run("labd demo", 400.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "alice-1" in done.stdout
    assert (reader.folder / "var" / "demo" / "power-trace.png").stat().st_size > 0


def test_what_is_not_run_is_still_documented() -> None:
    every = [command for page in PAGES for command in documented_commands(page)]
    every += documented_commands(REPO / "CONTRIBUTING.md")
    assert len(every) > 30
    unused = [what for what in NOT_RUN if not any(re.match(what, each) for each in every)]
    assert unused == []
