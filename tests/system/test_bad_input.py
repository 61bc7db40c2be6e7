"""Bad input gets a clear answer, on every way in, and does no harm."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labd.mqtt.broker import EmbeddedBroker
from labd.mqtt.link import MqttLink
from labd.wire.messages import REQUESTS
from labd.wire.topics import Topics
from tests.system.lab import LAB, ONE_EMULATED, HandBench, Lab

pytestmark = pytest.mark.timeout(600)

TOPICS = Topics(LAB)
HOSTILE = [
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b'"submit"',
    b"{",
    b'{"job": "x"',
    b"[" * 20_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"job": "a", "job": "b", "benchmark": "digits01"}',
    b'{"job": NaN, "benchmark": "digits01"}',
    b'{"job": "a/b", "benchmark": "digits01"}',
    b'{"job": "#", "benchmark": "digits01"}',
    b'{"job": "a", "benchmark": "digits01", "modes": ["enrgy"]}',
    b'{"job": "a", "benchmark": "digits01", "modes": []}',
    b'{"job": "a", "benchmark": "digits01", "modes": ["energy", "energy"]}',
    b'{"job": "a", "benchmark": "digits01", "v": 2}',
    b'{"job": "a", "benchmark": "digits01", "user": "root"}',
    b'{"job": "a", "benchmark": "digits01", "voltage_mv": 99999}',
    b'{"job": "a", "benchmark": "digits01", "voltage_mv": "3000"}',
    b'{"job": "' + b"a" * 100 + b'", "benchmark": "digits01"}',
    b'{"job": "a\\u0000", "benchmark": "digits01"}',
    b'{"job": "a", "from_seq": -1, "limit": 1e99}',
    b'{"job": ' + b"9" * 5000 + b"}",
    b" " * 3_000_000,
]


async def ask_raw(lab: Lab, topic: str, payload: bytes, reply_to: str) -> dict[str, Any]:
    """Publish bytes as any MQTT program could, and return the lab's reply."""
    async with MqttLink(lab.url, "raw-client") as link, link.subscribe(reply_to) as inbox:
        await link.publish_message(topic, payload)
        async with asyncio.timeout(10):
            message = await anext(inbox)
    reply: dict[str, Any] = json.loads(message.payload)
    return reply


async def test_every_command_topic_survives_hostile_payloads(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    back = TOPICS.reply_topic("mallory", "default")
    for verb in (*REQUESTS, "nonsense"):
        for payload in HOSTILE:
            reply = await ask_raw(lab, TOPICS.command_topic("mallory", verb), payload, back)
            assert not reply["ok"], (verb, payload[:80])
            assert reply["text"], (verb, payload[:80])
            assert reply["errors"], (verb, payload[:80])
    async with lab.client("mallory") as client:
        assert await client.list_jobs() == []
    assert lab.stop() == 0


async def test_a_retained_request_is_cleared_and_logged_once(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    topic = TOPICS.command_topic("mallory", "submit")
    hostile = b'{"job": "again", "benchmark": "digits01", "modes": ["accuracy"]}'
    async with (
        EmbeddedBroker(lab.folder / "state" / "broker", lab.port),
        MqttLink(lab.url, "mallory") as link,
    ):
        await link.publish_message(topic, hostile, retain=True)
    for _ in range(2):
        lab.start()
        await lab.ready()
        async with (
            MqttLink(lab.url, "late") as link,
            link.subscribe(topic) as late,
            link.subscribe(TOPICS.reply_topic("mallory", "default")) as replies,
        ):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await anext(late)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await anext(replies)
        async with lab.client("mallory") as client:
            assert await client.list_jobs() == []
        assert lab.stop() == 0
    assert lab.log.read_text().count("retained-request-cleared") == 1


async def test_every_mistake_is_named_with_its_place(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    wrong = {
        "job": "x y",
        "benchmark": "digits01",
        "modes": ["accuracy", "enrgy"],
        "priorty": "normal",
        "client": "me",
        "request": "r1",
    }
    reply = await ask_raw(
        lab,
        TOPICS.command_topic("alice", "submit"),
        json.dumps(wrong).encode(),
        TOPICS.reply_topic("alice", "me"),
    )
    assert reply["request"] == "r1"
    assert {error["at"] for error in reply["errors"]} == {"job", "modes[1]", "priorty"}
    texts = {error["at"]: error["text"] for error in reply["errors"]}
    assert "'enrgy' is not one of accuracy, performance, energy" in texts["modes[1]"]
    assert "priority" in texts["priorty"]


async def test_a_handwritten_submission_runs(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    reply = await ask_raw(
        lab,
        TOPICS.command_topic("bob", "submit"),
        b'{"job": "hand-1", "benchmark": "digits01", "modes": ["accuracy"]}',
        TOPICS.reply_topic("bob", "default"),
    )
    assert reply["ok"]
    assert reply["job"] == "hand-1"
    watched = lab.labctl("watch", "hand-1")
    assert watched.returncode == 0, watched.stderr
    assert "bob" in watched.stdout


async def test_refusals_name_the_remedy(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    damaged = tmp_path / "sets"
    (damaged / "kws01").mkdir(parents=True)
    (damaged / "kws01" / "y_labels.csv").write_text("a.bin,12,1\n")
    (damaged / "kws01" / "a.bin").write_bytes(b"short")
    lab = make_lab(datasets=[damaged])
    lab.start()
    await lab.ready()
    for arguments, expected in [
        (("digits1",), "use one of ad01, digits01, ic01, kws01, vww01"),
        (("digits01", "--station", "v9"), "there is no station 'v9'; the lab has v1"),
        (("digits01", "--modes", "speed"), "'speed' is not one of accuracy, performance, energy"),
        (("kws01",), "a.bin has 5 bytes, expected 490"),
        (("vww01",), "no y_labels.csv in"),
        (("digits01", "--firmware", "nix"), "there is no nix-"),
        (("digits01", "--priority", "urgent"), "'urgent' is not one of"),
        (("digits01", "--job", "two words"), "1 to 64 letters"),
    ]:
        refused = lab.labctl("submit", *arguments)
        assert refused.returncode == 2, refused
        assert expected in refused.stderr
        assert "Traceback" not in refused.stderr
    for arguments in [("show", "nix"), ("watch", "nix"), ("events", "nix"), ("cancel", "nix")]:
        refused = lab.labctl(*arguments)
        assert refused.returncode == 2, refused
        assert "no job nix" in refused.stderr
    assert json.loads(lab.labctl("jobs", "--json").stdout) == []


async def test_one_id_is_one_job(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    first = lab.labctl("submit", "digits01", "--modes", "accuracy", "--job", "once")
    again = lab.labctl("submit", "digits01", "--modes", "accuracy", "--job", "once")
    other = lab.labctl("submit", "digits01", "--modes", "energy", "--job", "once")
    thief = lab.labctl("submit", "digits01", "--modes", "accuracy", "--job", "once", user="bob")
    stranger = lab.labctl("cancel", "once", user="bob")
    assert (first.returncode, again.returncode) == (0, 0)
    assert "submitted before" in again.stdout
    assert other.returncode == thief.returncode == stranger.returncode == 2
    assert "job id once belongs to another request" in other.stderr
    assert "you have no job once" in stranger.stderr
    watched = lab.labctl("watch", "once")
    assert watched.returncode == 0
    assert len(json.loads(lab.labctl("jobs", "--json").stdout)) == 1


def test_a_missing_lab_is_reported(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    refused = lab.labctl("jobs")
    assert refused.returncode == 7
    assert "labd serve" in refused.stderr


@pytest.mark.parametrize(
    ("stations", "expected"),
    [
        ("[[station]\n", ["stations.toml:", "not TOML"]),
        ("[[station]]\nname = 'a b'\nbord = 'x'\n", ["name", "bord", "did you mean", "board"]),
        ("", ["at least one [[station]]"]),
        (
            "[[station]]\nname='s'\nboard='b'\ndut={driver='serial-dutt', port='/dev/x'}\n",
            ["serial-dutt", "serial-dut"],
        ),
    ],
)
def test_a_broken_stations_toml_is_refused_with_its_lines(
    make_lab: Callable[..., Lab], stations: str, expected: list[str]
) -> None:
    lab = make_lab(stations or "\n")
    lab.start()
    assert lab.process is not None
    assert lab.process.wait(timeout=20) == 2
    log = lab.log.read_text()
    for word in expected:
        assert word in log
    assert "Traceback" not in log


def test_check_and_serve_report_a_missing_firmware_alike(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(ONE_EMULATED.replace("seed = 1", "firmware = 'nix'").format(mode="freeze"))
    lab.start()
    assert lab.process is not None
    status = lab.process.wait(timeout=30)
    checked = subprocess.run(
        [sys.executable, "-m", "labd.cli.labd", "check", "--config", str(lab.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (status, checked.returncode) == (2, 2)
    assert "station v1: emulated.firmware: no nix.elf in" in checked.stderr
    assert checked.stderr.strip() in lab.log.read_text()


async def test_ports_that_are_not_there_make_a_bad_station(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(
        "[[station]]\nname = 'gone'\nboard = 'nucleo-l4r5zi'\n"
        "dut = { driver = 'serial-dut', port = '/dev/ttyNONE7' }\n"
    )
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        [station] = await client.list_stations()
        await client.send_request("submit", job="waits", benchmark="digits01", modes=["accuracy"])
        await asyncio.sleep(0.5)
        job = await client.find_job("waits")
    assert station.health == "bad"
    assert "/dev/ttyNONE7" in station.why
    assert job.state == "queued"
    assert "gone is bad" in job.waiting
    assert "/dev/ttyNONE7" in job.waiting
    assert lab.labctl("cancel", "waits").returncode == 0
    assert lab.labctl("watch", "waits").returncode == 5


async def test_a_dut_that_never_answers_makes_a_bad_station(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    lab = make_lab(hand_bench.station("dut"))  # nobody powers the board
    lab.start()
    await lab.ready(60)
    async with lab.client() as client:
        [station] = await client.list_stations()
    assert station.health == "bad"
    assert "dut" in station.why
    assert "Traceback" not in lab.log.read_text()


async def test_a_monitor_without_sight_of_the_dut_gets_no_energy_jobs(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    """Binary has no place for edges, and no wire leads to an I/O manager."""
    station = hand_bench.station("dut", "power").replace(
        "/power' }", "/power', format = 'binary' }"
    )
    lab = make_lab(station)
    lab.start()
    await lab.ready(60)
    async with lab.client() as client:
        [found] = await client.list_stations()
    assert found.health == "good"
    assert "no energy jobs: lpm01a does not see the DUT's timestamps" in found.why
    assert "processing_wire" in found.why
    refused = lab.labctl("submit", "digits01", "--modes", "accuracy,energy")
    assert refused.returncode == 2
    assert "h1: no way to see the DUT's timestamps" in refused.stderr
    assert lab.labctl("submit", "digits01", "--modes", "performance").returncode == 0
    assert lab.stop() == 0


def test_a_second_daemon_on_the_same_state_is_refused(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start()
    asyncio.run(lab.ready())
    rival = Lab(lab.folder, lab.config.read_text().split("[broker]")[1].split("\n", 2)[2])
    rival.log = lab.folder / "rival.log"
    rival.start()
    assert rival.process is not None
    assert rival.process.wait(timeout=20) == 2
    assert "is using" in rival.log.read_text()
