"""A Qoitech Otii server with its devices; its recordings grow by a clock that a test may move.

Requests, answers and their fields follow Qoitech's TCP help; the texts of errors are as far
as known from published issues. What it measures is the signal of :mod:`.synthetic_load`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments.synthetic_load import (
    PERIOD_S,
    PULSE_S,
    START_S,
    STOP_S,
    synthetic_current_a,
)

Fields = dict[str, Any]


def make_arc(number: int = 1) -> Fields:
    """Return a device as the server lists it."""
    return {"device_id": f"Arc{number:032d}", "name": f"arc-{number}", "type": "Arc"}


def make_ace(number: int = 1) -> Fields:
    """Return the faster model as the server lists it."""
    return {"device_id": f"Ace{number:032d}", "name": f"ace-{number}", "type": "Ace"}


LICENCE: Fields = {
    "id": 1234,
    "type": "Automation",
    "available": True,
    "reserved_to": "",
    "hostname": "",
}


@dataclass
class Loss:
    """Samples of a channel that never reached the recording.

    ``visible``: the time stamps of later samples show it.
    """

    channel: str
    at_s: float
    count: int
    visible: bool = True


@dataclass
class SimulatedRecording:
    """One recording with its losses."""

    number: int
    began_s: float
    ended_s: float | None = None
    losses: list[Loss] = field(default_factory=list[Loss])


class Refusal(Exception):  # noqa: N818 - what the server does
    """An answer of type ``error``."""


class SimulatedOtii:
    """The server.

    Args:
        devices: that it has; :func:`make_arc` or :func:`make_ace`.
    """

    def __init__(self, *devices: Fields) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.devices = list(devices or [make_arc()])
        self.clock_ns: Callable[[], int] = self._manual_clock_ns
        self.licences = [dict(LICENCE)]
        self.account = ("", "")
        self.logged_in = True
        self.refuses: dict[str, str] = {}
        self.unanswered: set[str] = set()
        self.progress = False
        self.busy = False
        self.commands: list[str] = []
        self.requests: list[Fields] = []
        self.main: dict[str, bool] = {}
        self.volts: dict[str, float] = {}
        self.rates = {item["device_id"]: {"mc": 4000, "mv": 1000} for item in self.devices}
        self.recordings: list[SimulatedRecording] = []
        self.running: SimulatedRecording | None = None
        self.stalled_s: float | None = None
        self.lag_s = {"mc": 0.0, "mv": 0.0, "i1": 0.0, "i2": 0.0}
        self.resistance_ohm = 0.0
        self.losses: list[Loss] = []
        self.null_at: set[int] = set()
        self._now_ns = 5_000_000_000
        self._text = b""
        self._late: list[bytes] = []

    # ---- time ----------------------------------------------------------------------------

    def _manual_clock_ns(self) -> int:
        return self._now_ns

    def advance_clock(self, seconds: float) -> None:
        """Move its clock."""
        self._now_ns += round(seconds * 1e9)

    @property
    def now_s(self) -> float:
        """The server's clock."""
        return self.clock_ns() / 1e9

    # ---- the wire ------------------------------------------------------------------------

    def on_connect(self) -> None:
        """Greet a host that has connected."""
        self._text = b""
        if self.busy:
            self._send_line({"type": "error", "errorcode": "Too many connections"})
            return
        data = {"otii_version": "3.5.6-simulated", "protocol_version": "0.1"}
        self._send_line({"type": "information", "info": "connected", "data": data})

    def receive(self, data: bytes) -> None:
        """Take requests, one per line."""
        self._text += data
        while b"\r\n" in self._text:
            line, _, self._text = self._text.partition(b"\r\n")
            self._answer_request(json.loads(line))

    def _answer_request(self, request: Fields) -> None:
        cmd, data = request["cmd"], request.get("data", {})
        self.commands.append(cmd)
        self.requests.append(request)
        answer = {"type": "response", "cmd": cmd, "trans_id": request["trans_id"]}
        try:
            answer["data"] = self._execute_request(cmd, data)
        except Refusal as refusal:
            answer |= {"type": "error", "errorcode": str(refusal), "data": {}}
        if self.progress:
            part = {"type": "progress", "cmd": cmd, "trans_id": request["trans_id"]}
            self._send_line(part | {"progress_value": 0.5})
        if cmd in self.unanswered:
            self._late.append(_encode_line(answer))
        else:
            self._send_line(answer)

    def send_delayed_answers(self) -> None:
        """Send the answers that were held back."""
        late, self._late = self._late, []
        for line in late:
            self.send(line)

    def _send_line(self, message: Fields) -> None:
        self.send(_encode_line(message))

    # ---- requests ------------------------------------------------------------------------

    def _execute_request(self, cmd: str, data: Fields) -> Fields:
        family, _, _ = cmd.partition("_")
        handler: Callable[[Fields], Fields] | None = getattr(self, f"_on_{cmd}", None)
        if cmd in self.refuses:
            raise Refusal(self.refuses[cmd])
        if family == "arc" and data.get("device_id") not in [d["device_id"] for d in self.devices]:
            raise Refusal("Invalid device_id")
        if handler is not None:
            return handler(data)
        if cmd in SETTINGS:
            return {}
        raise Refusal("Invalid command")

    def _on_otii_is_logged_in(self, _: Fields) -> Fields:
        return {"logged_in": self.logged_in}

    def _on_otii_login(self, data: Fields) -> Fields:
        if (data["username"], data["password"]) != self.account:
            raise Refusal("Invalid username or password")
        self.logged_in = True
        return {}

    def _on_otii_logout(self, _: Fields) -> Fields:
        self.logged_in = False
        return {}

    def _on_otii_has_license(self, _: Fields) -> Fields:
        return {"has_license": any(item["reserved_to"] == "me" for item in self.licences)}

    def _on_otii_get_licenses(self, _: Fields) -> Fields:
        if not self.logged_in:
            raise Refusal("Not logged in")
        return {"licenses": self.licences}

    def _on_otii_reserve_license(self, data: Fields) -> Fields:
        self._find_licence(data)["reserved_to"] = "me"
        return {}

    def _on_otii_return_license(self, data: Fields) -> Fields:
        self._find_licence(data)["reserved_to"] = ""
        return {}

    def _find_licence(self, data: Fields) -> Fields:
        found = [item for item in self.licences if item["id"] == data["license_id"]]
        if not found:
            raise Refusal("Invalid license id")
        return found[0]

    def _on_otii_get_devices(self, _: Fields) -> Fields:
        log = {"device_id": "uart", "name": "a serial port", "type": "UART"}
        return {"devices": [*self.devices, log]}

    def _on_otii_get_active_project(self, _: Fields) -> Fields:
        return {"project_id": -1}

    def _on_otii_create_project(self, _: Fields) -> Fields:
        return {"project_id": 1}

    def _on_arc_is_connected(self, _: Fields) -> Fields:
        return {"connected": True}

    def _on_arc_get_version(self, _: Fields) -> Fields:
        return {"hw_version": "1.5.1", "fw_version": "1.2.0"}

    def _on_arc_get_gpi(self, _: Fields) -> Fields:
        return {"value": True}

    def _on_arc_set_main(self, data: Fields) -> Fields:
        self.main[data["device_id"]] = data["enable"]
        return {}

    def _on_arc_get_main(self, data: Fields) -> Fields:
        return {"value": self.main.get(data["device_id"], False)}

    def _on_arc_set_main_voltage(self, data: Fields) -> Fields:
        self.volts[data["device_id"]] = data["value"]
        return {}

    def _on_arc_get_channel_samplerate(self, data: Fields) -> Fields:
        return {"value": self.rates[data["device_id"]][data["channel"]]}

    def _on_arc_set_channel_samplerate(self, data: Fields) -> Fields:
        if not data["device_id"].startswith("Ace"):
            raise Refusal("Not supported by device")
        self.rates[data["device_id"]][data["channel"]] = data["value"]
        return {}

    # ---- recordings ----------------------------------------------------------------------

    def _on_project_start_recording(self, _: Fields) -> Fields:
        if self.running is not None:
            raise Refusal("Recording already running")
        self.running = SimulatedRecording(
            len(self.recordings), self.now_s, losses=list(self.losses)
        )
        self.recordings.append(self.running)
        return {}

    def _on_project_stop_recording(self, _: Fields) -> Fields:
        if self.running is None:
            raise Refusal("No recording running")
        self.running.ended_s = self.now_s
        self.running = None
        return {}

    def _on_project_get_last_recording(self, _: Fields) -> Fields:
        return {"recording_id": len(self.recordings) - 1, "name": "Recording"}

    def _on_recording_delete(self, _: Fields) -> Fields:
        return {}

    def _on_recording_get_channel_data_count(self, data: Fields) -> Fields:
        return {"count": self._sample_count(data)}

    def _on_recording_get_channel_data(self, data: Fields) -> Fields:
        index, count = data["index"], data["count"]
        if index + count > self._sample_count(data):
            raise Refusal("Index out of range")
        if data["channel"] in {"i1", "i2"}:
            changes = self._line_changes(self._recorded_duration_s(data))[index : index + count]
            values = [{"timestamp": at, "value": high} for at, high in changes]
            return {"data_type": "digital", "values": values}
        return self._analog_samples(data, index, count)

    def _analog_samples(self, data: Fields, index: int, count: int) -> Fields:
        rate = self.rates[data["device_id"]][data["channel"]]
        recording = self._find_recording(data)
        positions = np.arange(index, index + count)
        shown = index
        for loss in recording.losses:
            if loss.channel == data["channel"]:
                at = round(loss.at_s * rate)
                positions = np.where(positions >= at, positions + loss.count, positions)
                shown += loss.count if loss.visible and index >= at else 0
        amps = synthetic_current_a(positions / rate)
        if data["channel"] == "mv":
            amps = self.volts.get(data["device_id"], 0.0) - amps * self.resistance_ohm
        values: list[float | None] = np.round(amps, 9).tolist()
        for null in self.null_at if data["channel"] == "mc" else ():
            if index <= null < index + count:
                values[null - index] = None
        head = {"data_type": "analog", "timestamp": shown / rate, "interval": 1.0 / rate}
        return head | {"values": values}

    def _find_recording(self, data: Fields) -> SimulatedRecording:
        number: int = data["recording_id"]
        return self.recordings[number]

    def _recorded_duration_s(self, data: Fields) -> float:
        recording = self._find_recording(data)
        now_s = self.now_s if recording.ended_s is None else recording.ended_s
        if self.stalled_s is not None:
            now_s = min(now_s, recording.began_s + self.stalled_s)
        late_s = self.lag_s[data["channel"]] if recording.ended_s is None else 0.0
        return max(0.0, now_s - recording.began_s - late_s)

    def _sample_count(self, data: Fields) -> int:
        length_s, channel = self._recorded_duration_s(data), data["channel"]
        if channel in {"i1", "i2"}:
            return len(self._line_changes(length_s))
        rate = self.rates[data["device_id"]][channel]
        periods = math.floor(length_s * rate + 1e-6)
        lost = sum(
            min(loss.count, max(0, periods - round(loss.at_s * rate)))
            for loss in self._find_recording(data).losses
            if loss.channel == channel
        )
        return periods - lost

    @staticmethod
    def _line_changes(length_s: float) -> list[tuple[float, bool]]:
        """The level at the beginning, then every change."""
        changes = [(0.0, True)]
        for period in range(math.ceil(length_s / PERIOD_S)):
            for at in (START_S, STOP_S):
                fall_s = period * PERIOD_S + at
                changes += [(fall_s, False), (fall_s + PULSE_S, True)]
        return [change for change in changes if change[0] <= length_s]


SETTINGS = {
    "arc_add_to_project",
    "arc_enable_channel",
    "arc_enable_exp_port",
    "arc_set_exp_voltage",
    "arc_set_max_current",
    "arc_set_range",
    "arc_set_supply_power_box",
}
"""Requests that are taken and change nothing here."""


def _encode_line(message: Fields) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


def serve_otii_on_tcp() -> TcpCable:
    """Return a server with one Arc, which records by the wall clock."""
    otii = SimulatedOtii()
    otii.clock_ns = time.monotonic_ns
    return TcpCable(otii)
