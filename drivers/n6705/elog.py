"""External data logger (ELOG) of the N6705: its settings, and one run of it.

N6705C Operating and Service Guide, chapter 4: the instrument rounds the integration period, so
the period is read back; a record holds mean, minimum and maximum of each function that is on,
current before voltage; the instrument buffers about 20 s of records, then overwrites them. The
functions of all slots are set, read back before every run, and checked by the rate of records.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from drivers.n6705.config import N6705Config
from drivers.scpi.codec import parse_values
from drivers.scpi.polling import Clock, PolledAcquisition
from drivers.scpi.record_clock import Moment
from drivers.scpi.record_stream import Records, RecordStream
from drivers.scpi.session import ScpiSession
from labd.core.errors import InfraError, InstrumentError

BUFFER_S = 15.0  # of "about 20 seconds"
FETCH_RECORDS = 4096
POLL_S = 0.07  # no divisor of a round update interval
ARM_S = 0.1  # between INIT:ELOG and TRIG:ELOG
PERIOD_TOLERANCE = 0.05
CLIPPED = 0.995  # of the current limit: above it the output is in constant current
FUNCTIONS = ("CURR", "CURR:MINM", "VOLT", "VOLT:MINM")

LASTING_NS = 900_000_000
"""A difference of this duration is a loss; shorter than the delay before records are released."""

LASTING_POLLS = 5
SPARE_RECORDS = 2  # a record in progress in either channel

SMU = re.compile(r"N678[12456]")  # measures voltage beside current, changes ranges seamlessly


@dataclass(frozen=True, slots=True)
class ElogPlan:
    """Use of the channels.

    Args:
        models: module in each occupied slot.
        supplying: channels that are switched on and off together.
        logged: channels whose current is logged; the DUT's is the first.
        with_voltage: whether the DUT's voltage is logged after its current.
    """

    models: dict[int, str]
    supplying: tuple[int, ...]
    logged: tuple[int, ...]
    with_voltage: bool

    @property
    def slot_list(self) -> str:
        """All occupied slots as a channel list."""
        return channel_list(self.models)

    @property
    def output_list(self) -> str:
        """The supplying channels as a channel list."""
        return channel_list(self.supplying)

    @property
    def logged_channels(self) -> str:
        """The logged channels as a channel list."""
        return channel_list(self.logged)

    @property
    def wanted_functions(self) -> dict[str, set[int]]:
        """Channels on which each logging function has to be on."""
        voltage = {self.logged[0]} if self.with_voltage else set[int]()
        return {"CURR": set(self.logged), "CURR:MINM": set(), "VOLT": voltage, "VOLT:MINM": set()}


def channel_list(channels: Iterable[int]) -> str:
    """Return channels in SCPI's notation, ``(@1,3)``."""
    return f"(@{','.join(map(str, channels))})"


def parse_records(block: bytes, fields: int) -> Records:
    """Return the records of a block (float32, big-endian), shape (n, fields).

    Raises:
        ValueError: it does not consist of complete records.
    """
    values = parse_values(block, "real32", "big")
    if len(values) % fields:
        raise ValueError(f"{len(values)} values are no whole number of records of {fields}")
    return values.reshape(-1, fields)


def format_functions(states: dict[str, set[int]]) -> str:
    """Return logging functions and their channels as text."""
    parts = [f"{name} on {channel_list(sorted(on))}" for name, on in states.items() if on]
    return ", ".join(parts) or "none"


class ElogSettings:
    """Settings of the logger for a plan."""

    def __init__(self, session: ScpiSession, plan: ElogPlan) -> None:
        self.session = session
        self.plan = plan

    async def set_up(self, period_s: float) -> float:
        """Set the logging functions of every slot; return the integration period it rounded to.

        Raises:
            InstrumentError: a module cannot log a function of the plan, or ignored a command.
        """
        plan = self.plan
        for name in FUNCTIONS:
            await self.session.run_commands(f"SENS:ELOG:FUNC:{name} OFF,{plan.slot_list}")
        for name, channels in plan.wanted_functions.items():
            for channel in sorted(channels):
                await self._enable_function(name, channel)
        for channel in plan.logged:
            if SMU.match(plan.models[channel]):
                await self.session.run_commands(f"SENS:ELOG:CURR:RANG:AUTO ON,(@{channel})")
        await self.session.run_commands(
            "SENS:SWE:TINT:RES RES20",
            f"SENS:ELOG:PER {period_s:g},{plan.logged_channels}",
            "FORM REAL",
            "FORM:BORD NORM",
        )
        await self.check_functions()
        return await self._read_period(period_s)

    async def read_functions(self) -> dict[str, set[int]]:
        """Read the channels, of all slots, on which each logging function is on."""
        models = self.plan.models
        found: dict[str, set[int]] = {}
        for name in FUNCTIONS:
            query = f"SENS:ELOG:FUNC:{name}? {self.plan.slot_list}"
            states = await self.session.ask_states(query, len(models))
            found[name] = {slot for slot, on in zip(models, states, strict=True) if on}
        return found

    async def check_functions(self) -> None:
        """Check that exactly the functions of the plan are on, on every slot.

        Raises:
            InstrumentError: ``elog-functions``; another function would share the records.
        """
        states, wanted = await self.read_functions(), self.plan.wanted_functions
        if states != wanted:
            raise InstrumentError(
                "elog-functions",
                f"functions that log: {format_functions(states)}; "
                f"wanted: {format_functions(wanted)}",
                "stop what else uses the instrument; power-cycle it if it refuses",
                self.session.where,
            )

    async def abort_log(self) -> None:
        """Stop the log, if one runs."""
        await self.session.run_commands(f"ABOR:ELOG {self.plan.logged_channels}")

    async def _enable_function(self, name: str, channel: int) -> None:
        try:
            await self.session.run_commands(f"SENS:ELOG:FUNC:{name} ON,(@{channel})")
        except InstrumentError as exc:
            raise InstrumentError(
                "module-unfit",
                f"slot {channel}, {self.plan.models[channel]}, cannot log {name}: {exc.what}",
                "use a module that can (voltage beside current: N676x, N678x); with option 055 the "
                "instrument has no logger",
                self.session.where,
            ) from exc

    async def _read_period(self, wanted_s: float) -> float:
        """Read back the integration period, a multiple of 20.48 µs."""
        query = f"SENS:ELOG:PER? {self.plan.logged_channels}"
        periods_s = await self.session.ask_numbers(query, len(self.plan.logged))
        wrong = abs(periods_s / wanted_s - 1) > PERIOD_TOLERANCE
        if any(wrong) or min(periods_s) != max(periods_s):
            found = ", ".join(f"{period_s:g}" for period_s in periods_s.tolist())
            raise self.session.mismatch_error(
                f"an integration period of {wanted_s:g} s", f"{found} s"
            )
        return float(periods_s[0])


class ChannelCounts:
    """Check that two channels have logged the same number of records, poll after poll. Pure.

    The channels are polled one after the other, so the second may be ahead by the records made
    in between, and an update in between shows on one alone; but no such difference lasts.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._leads: deque[tuple[int, int, float]] = deque()  # time, lead, largest possible lead

    def find_difference(self, lead: int, first: Moment, last: Moment) -> str:
        """Return what is wrong with the counts; empty if nothing is.

        Args:
            lead: records by which the channel polled last is ahead; both had no more.
            first: when the other channel was polled.
            last: when this channel was.
        """
        most = (last.after_ns - first.before_ns) * 1e-9 / self._period_s + SPARE_RECORDS
        self._leads.append((last.after_ns, lead, most))
        if self._leads[0][0] > last.after_ns - LASTING_NS:
            return ""
        while self._leads[1][0] <= last.after_ns - LASTING_NS:
            self._leads.popleft()
        leads = [lead for _, lead, _ in self._leads]
        ahead = min(lead - most for _, lead, most in self._leads) > 0
        if len(leads) < LASTING_POLLS or not (ahead or max(leads) < -SPARE_RECORDS):
            return ""
        return f"its channels differ by {min(leads, key=abs)} records permanently: some were lost"


class ElogAcquisition(PolledAcquisition):
    """One run of the logger; its settings are checked before."""

    def __init__(
        self,
        settings: ElogSettings,
        stream: RecordStream,
        clock: Clock,
        config: N6705Config,
        period_s: float,
        poll_s: float,
        arm_s: float,
    ) -> None:
        super().__init__(settings.session, stream, clock, config.answer_s, poll_s)
        self._settings = settings
        self._plan = settings.plan
        self._arm_s = arm_s
        self._limit_a = CLIPPED * config.current_limit_a
        self._waiting: list[Records] = [np.empty((0, 1)) for _ in self._plan.logged]
        self._counts_check = ChannelCounts(period_s)

    async def _prepare_log(self) -> None:
        await self._settings.abort_log()
        await self._settings.check_functions()
        await self._session.run_commands(
            f"TRIG:ELOG:SOUR BUS,{self._plan.logged_channels}",
            f"INIT:ELOG {self._plan.logged_channels}",
        )
        await asyncio.sleep(self._arm_s)

    async def _send_start_commands(self) -> None:
        await self._session.run_commands(f"TRIG:ELOG {self._plan.logged_channels}")

    async def _fetch_records(self) -> tuple[Records, bool]:
        """Return the records that all logged channels have, side by side."""
        drained = True
        asked: list[Moment] = []
        for place, channel in enumerate(self._plan.logged):
            fields = 1 + (self._plan.with_voltage and place == 0)
            before_ns = self._clock()
            records = await self._fetch_from_channel(channel, fields)
            asked.append(Moment(before_ns, self._clock()))
            drained = drained and len(records) < FETCH_RECORDS
            if place == 0 and not self._plan.with_voltage:
                records[records[:, 0] >= self._limit_a] = np.nan  # the voltage is not the set one
            before = self._waiting[place]
            self._waiting[place] = np.concatenate([before, records]) if len(before) else records
        lead = len(self._waiting[-1]) - len(self._waiting[0])
        if drained and (fault := self._counts_check.find_difference(lead, asked[0], asked[-1])):
            raise self._records_error(fault)
        whole = min(map(len, self._waiting))
        records = np.hstack([waiting[:whole] for waiting in self._waiting])
        self._waiting = [waiting[whole:] for waiting in self._waiting]
        return records, drained

    async def _fetch_from_channel(self, channel: int, fields: int) -> Records:
        query = f"FETC:ELOG? {FETCH_RECORDS},(@{channel})"
        block = await self._session.ask_bytes(query)
        errors = (
            await self._session.read_errors()
        )  # a synchronised answer confirms the block before it
        if errors:
            raise self._records_error(f"the log failed: {'; '.join(errors)}")
        try:
            return parse_records(block, fields)
        except ValueError as exc:
            raise await self._record_error(str(exc)) from exc

    async def _stop_log(self) -> None:
        await self._settings.abort_log()

    async def _record_error(self, problem: str) -> InstrumentError:
        try:
            states = await self._settings.read_functions()
        except InfraError as fault:
            return self._records_error(f"{problem}; its functions cannot be read: {fault.what}")
        return self._records_error(f"{problem}; functions that log: {format_functions(states)}")

    def _records_error(self, what: str) -> InstrumentError:
        remedy = (
            "use the instrument neither from another program nor at its front panel; a host that "
            "polls more than 20 s late loses records too"
        )
        return InstrumentError("elog-records", what, remedy, self._where)
