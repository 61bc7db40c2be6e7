"""Messages of an Otii server: JSON objects, one per line, and the data in them. Pure.

Source: Qoitech, "The Otii Server", TCP help.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Message = dict[str, Any]

MAX_MESSAGE = 32 << 20
"""Longest message; 40 000 samples of 25 digits are a megabyte."""


# ---- messages ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """A line that is no JSON object."""

    text: str


class MessageSplitter:
    """Splits a byte stream into JSON objects, whatever its chunks."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Message | InvalidLine]:
        """Take more bytes; return the messages they completed."""
        *whole, rest = data.split(b"\n")
        lines: list[bytes] = []
        for end in whole:
            lines.append(b"".join([*self._parts, end]))
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > MAX_MESSAGE:
            lines.append(b"".join(self._parts))
            self._parts, self._size = [], 0
        return [_parse_message(line) for line in lines if line.strip()]


def _parse_message(line: bytes) -> Message | InvalidLine:
    try:
        parsed: object = json.loads(line)
        if rb"\ud" in line.lower():  # an escaped surrogate; UTF-8 cannot carry an unpaired one
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        return cast("Message", parsed)
    return InvalidLine(line[:200].decode("utf-8", "replace").strip())


def encode_request(cmd: str, trans_id: str, data: Mapping[str, object] | None) -> bytes:
    """Return the bytes of one request."""
    request: dict[str, object] = {"type": "request", "cmd": cmd, "trans_id": trans_id}
    if data is not None:
        request["data"] = data
    return json.dumps(request).encode("ascii") + b"\r\n"


# ---- data of a recording -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class AnalogData:
    """Samples of an analog channel.

    Args:
        t_s: time of the first sample in the recording.
        interval_s: between two samples.
        values: ampere or volt, shape (n,); NaN where the server gave none.
    """

    t_s: float
    interval_s: float
    values: Floats


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A digital channel's level from this time of the recording on."""

    t_s: float
    high: bool


def parse_analog_data(data: Mapping[str, Any], count: int) -> AnalogData:
    """Return the samples in a reply to ``recording_get_channel_data``.

    Raises:
        ValueError: it is no such reply, or does not have ``count`` samples.
    """
    values = data.get("values")
    if data.get("data_type", "analog") != "analog" or not isinstance(values, list):
        raise ValueError("no analog samples")
    listed = cast("list[object]", values)
    if len(listed) != count:
        raise ValueError(f"{len(listed)} samples instead of {count}")
    t_s, interval_s = _parse_number(data.get("timestamp")), _parse_number(data.get("interval"))
    if interval_s <= 0:
        raise ValueError(f"an interval of {interval_s} s")
    if not set(map(type, listed)) <= {float, int, type(None)}:
        raise ValueError("samples that are no numbers")
    numbers = np.array(listed, dtype=np.float64)
    if np.isinf(numbers).any():
        raise ValueError("samples that are no finite numbers")
    return AnalogData(t_s, interval_s, numbers)


def parse_digital_changes(data: Mapping[str, Any], count: int) -> list[LevelChange]:
    """Return the changes in a reply to ``recording_get_channel_data``.

    Raises:
        ValueError: it is no such reply, or does not have ``count`` changes.
    """
    values = data.get("values")
    if data.get("data_type", "digital") != "digital" or not isinstance(values, list):
        raise ValueError("no digital changes")
    listed = cast("list[object]", values)
    if len(listed) != count:
        raise ValueError(f"{len(listed)} changes instead of {count}")
    return [_parse_change(item) for item in listed]


def _parse_change(item: object) -> LevelChange:
    if not isinstance(item, dict):
        raise ValueError(f"{item!r} is no change")  # noqa: TRY004 - one kind of error
    fields = cast("Message", item)
    value = fields.get("value")
    if value not in (True, False, 0, 1):
        raise ValueError(f"{value!r} is no level")
    return LevelChange(_parse_number(fields.get("timestamp")), bool(value))


def _parse_number(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{value!r} is no number")
