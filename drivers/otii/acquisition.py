"""One recording of an Otii, read while it grows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from drivers.base.acquisition import BackgroundAcquisition
from drivers.otii.config import OtiiConfig
from drivers.otii.messages import Message, parse_analog_data, parse_digital_changes
from drivers.otii.session import OtiiDevice, OtiiRefusedError
from drivers.otii.stream import OtiiStream
from labd.core.errors import InstrumentError, Where
from labd.core.model import StreamItem

POLL_S = 0.1
CHUNK = 40_000
STOP_S = 15.0

Clock = Callable[[], int]
"""The host's clock, ns."""


class OtiiAcquisition(BackgroundAcquisition):
    """One recording; at its end ``check_supply`` raises if the supply has cut off."""

    def __init__(
        self,
        device: OtiiDevice,
        config: OtiiConfig,
        stream: OtiiStream,
        check_supply: Callable[[], Awaitable[None]],
        clock: Clock,
        where: Where,
        poll_s: float,
    ) -> None:
        super().__init__(where, config.answer_s, stream)
        self._device = device
        self._recorded = stream
        self._check_supply = check_supply
        self._clock = clock
        self._poll_s = poll_s
        self._line = config.timestamp_line
        self._taken = {"mc": 0, "mv": 0, self._line: 0}
        self._recording: object = None
        self._touched = self._halted = self._drained = False
        self._started = asyncio.Event()
        self._stop_asked = asyncio.Event()

    @property
    def _is_idle(self) -> bool:
        return self._halted or not self._touched

    async def _start_instrument(self) -> None:
        level = await self._device.try_request("arc_get_gpi", pin=int(self._line[1]))
        high = bool(level["value"]) if level and "value" in level else None
        self._touched = True
        before_ns = self._clock()
        await self._device.request_project("project_start_recording")
        self._queue_items(self._recorded.note_start(before_ns, self._clock(), high=high))
        last = await self._device.request_project("project_get_last_recording")
        self._recording = last.get("recording_id", -1)
        self._started.set()

    async def _read_stream(self) -> None:
        await self._started.wait()
        try:
            while not self._stop_asked.is_set():
                await self._poll_channels()
                await self._wait_poll_interval()
            await self._device.request_project("project_stop_recording")
            self._halted = True
            while await self._poll_channels():
                pass
            await self._confirm_tail()
        except ValueError as problem:
            raise self._invalid_recording_error(problem) from problem
        with suppress(OtiiRefusedError):  # otherwise recordings fill the memory of the server
            await self._ask_recording("recording_delete")
        await self._check_supply()
        self._drained = True

    async def _stop_instrument(self) -> None:
        self._stop_asked.set()
        await self._wait_until(lambda: self._drained, "end of the recording", STOP_S)

    def _settle_unconfirmed_tail(self, reason: str) -> Sequence[StreamItem]:
        return self._recorded.rest_as_gap(str(self._fault) if self._fault else reason)

    async def _wait_poll_interval(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._stop_asked.wait()
        except TimeoutError:
            return

    async def _poll_channels(self) -> bool:
        """Read the new data of the channels; return whether there were any.

        Current first, so that the other channels reach at least as far.
        """
        before_ns = self._clock()
        gained = [await self._read_new_data("mc")]
        if not self._halted:
            self._queue_items(self._recorded.check_length(before_ns, self._clock()))
        gained += [await self._read_new_data("mv"), await self._read_new_data(self._line)]
        self._queue_items(self._recorded.release_confirmed())
        return any(gained)

    async def _read_new_data(self, channel: str) -> bool:
        reply = await self._ask_recording("recording_get_channel_data_count", channel=channel)
        total, first = reply.get("count"), self._taken[channel]
        if not isinstance(total, int) or total < first:
            raise ValueError(f"{channel} has {total} entries after it had {first}")
        for index in range(first, total, CHUNK):
            count = min(CHUNK, total - index)
            self._add_data(channel, await self._read_entries(channel, index, count), count)
            self._taken[channel] = index + count
        return total > first

    def _add_data(self, channel: str, data: Message, count: int) -> None:
        if channel == "mc":
            self._recorded.add_current(parse_analog_data(data, count))
        elif channel == "mv":
            self._recorded.add_voltage(parse_analog_data(data, count))
        else:
            self._recorded.add_changes(parse_digital_changes(data, count))
        self._queue_items([])  # progress

    async def _confirm_tail(self) -> None:
        """Read the times of the last samples, which confirm the last data."""
        lasts = [await self._last_time("mc"), await self._last_time("mv")]
        self._queue_items(self._recorded.finish(lasts[0], lasts[1], self._clock()))

    async def _last_time(self, channel: str) -> float | None:
        total = self._taken[channel]
        if not total:
            return None
        return parse_analog_data(await self._read_entries(channel, total - 1, 1), 1).t_s

    async def _read_entries(self, channel: str, index: int, count: int) -> Message:
        read = "recording_get_channel_data"
        return await self._ask_recording(read, channel=channel, index=index, count=count)

    async def _ask_recording(self, cmd: str, **data: object) -> Message:
        return await self._device.request(cmd, recording_id=self._recording, **data)

    def _invalid_recording_error(self, problem: ValueError) -> InstrumentError:
        return InstrumentError(
            "recording",
            f"the recording is invalid: {problem}",
            "close what else uses the Otii server and its host, and measure again",
            self._where,
        )
