"""The N6705's external data logger (ELOG): what it logs, and one run of it.

After the N6705C Operating and Service Guide, chapter 4: an integration period is rounded by
the instrument, so its answer counts; a record holds, for each function that is on, mean,
minimum and maximum, current before voltage; the instrument buffers about 20 s and overwrites
then. What the functions of all slots are is set, read back before every run, and watched
through the rate of the records.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from drivers.scpi.codec import values_in
from drivers.scpi.polling import Clock, PolledAcquisition
from drivers.scpi.record_clock import Moment, RecordStream, Rows
from drivers.scpi.session import ScpiSession
from labd.core.errors import InfraError, InstrumentError

BUFFER_S = 15.0  # of "about 20 seconds"
FETCH_RECORDS = 4096
POLL_S = 0.07  # not a divisor of a round update interval
ARM_S = 0.1  # between INIT and TRIG
PERIOD_TOLERANCE = 0.05
LASTING_NS = 900_000_000
"""So long channels may differ: less than records wait before they are released."""

LASTING_POLLS = 5
SPARE_RECORDS = 2  # a record under way in either channel
CLIPPED = 0.995  # of the current limit: the supply regulates current, not voltage
FUNCTIONS = ("CURR", "CURR:MINM", "VOLT", "VOLT:MINM")

SMU = re.compile(r"N678[12456]")  # voltage and current at once, ranges without a seam


@dataclass(frozen=True, slots=True)
class Plan:
    """Which channels do what.

    Args:
        models: module in each slot that has one.
        fed: channels that are switched on and off together.
        logged: channels whose current is logged; the first is the DUT's.
        with_voltage: whether the DUT's voltage is logged behind its current.
    """

    models: dict[int, str]
    fed: tuple[int, ...]
    logged: tuple[int, ...]
    with_voltage: bool

    @property
    def slots(self) -> str:
        """All slots as a channel list."""
        return channel_list(self.models)

    @property
    def outputs(self) -> str:
        """What is switched on and off, as a channel list."""
        return channel_list(self.fed)

    @property
    def log(self) -> str:
        """What is logged, as a channel list."""
        return channel_list(self.logged)

    @property
    def on(self) -> dict[str, set[int]]:
        """For each logging function the channels on which it has to be on."""
        voltage = {self.logged[0]} if self.with_voltage else set[int]()
        return {"CURR": set(self.logged), "CURR:MINM": set(), "VOLT": voltage, "VOLT:MINM": set()}


def channel_list(channels: Iterable[int]) -> str:
    """Channels as SCPI writes them: ``(@1,3)``."""
    return f"(@{','.join(map(str, channels))})"


def values_of(block: bytes, fields: int) -> Rows:
    """A block of float32, big-endian, as records, shape (n, fields).

    Raises:
        ValueError: it does not consist of whole records.
    """
    values = values_in(block, "real32", "big")
    if len(values) % fields:
        raise ValueError(f"{len(values)} values are no whole number of records of {fields}")
    return values.reshape(-1, fields)


def told(states: dict[str, set[int]]) -> str:
    """Logging functions and their channels in words."""
    parts = [f"{name} on {channel_list(sorted(on))}" for name, on in states.items() if on]
    return ", ".join(parts) or "none"


class Logger:
    """The logger's settings.

    Args:
        session: the instrument.
        plan: what is to be logged.
    """

    def __init__(self, session: ScpiSession, plan: Plan) -> None:
        self.session = session
        self.plan = plan

    async def set_up(self, period_s: float) -> float:
        """Switch on what is wanted and off all else, on every slot; return the period it made.

        Raises:
            InstrumentError: a module cannot log what is wanted, or does not obey.
        """
        plan = self.plan
        for name in FUNCTIONS:
            await self.session.run(f"SENS:ELOG:FUNC:{name} OFF,{plan.slots}")
        for name, channels in plan.on.items():
            for channel in sorted(channels):
                await self._switch_on(name, channel)
        for channel in plan.logged:
            if SMU.match(plan.models[channel]):
                await self.session.run(f"SENS:ELOG:CURR:RANG:AUTO ON,(@{channel})")
        await self.session.run(
            "SENS:SWE:TINT:RES RES20",
            f"SENS:ELOG:PER {period_s:g},{plan.log}",
            "FORM REAL",
            "FORM:BORD NORM",
        )
        await self.check()
        return await self._settled(period_s)

    async def functions(self) -> dict[str, set[int]]:
        """For each logging function the channels, of all slots, on which it is on."""
        models = self.plan.models
        found: dict[str, set[int]] = {}
        for name in FUNCTIONS:
            query = f"SENS:ELOG:FUNC:{name}? {self.plan.slots}"
            states = await self.session.ask_switches(query, len(models))
            found[name] = {slot for slot, on in zip(models, states, strict=True) if on}
        return found

    async def check(self) -> None:
        """See that exactly the wanted functions are on, on every slot.

        Raises:
            InstrumentError: ``elog-functions``; others would share the stream.
        """
        states, wanted = await self.functions(), self.plan.on
        if states != wanted:
            raise InstrumentError(
                "elog-functions",
                f"functions that log: {told(states)}; wanted: {told(wanted)}",
                "let nobody else use the instrument; power-cycle it if it refuses",
                self.session.where,
            )

    async def abort(self) -> None:
        """End a log; no log is no fault."""
        await self.session.run(f"ABOR:ELOG {self.plan.log}")

    async def _switch_on(self, name: str, channel: int) -> None:
        try:
            await self.session.run(f"SENS:ELOG:FUNC:{name} ON,(@{channel})")
        except InstrumentError as exc:
            raise InstrumentError(
                "module-unfit",
                f"slot {channel}, {self.plan.models[channel]}, cannot log {name}: {exc.what}",
                "use a module that can (voltage beside current: N676x, N678x); an instrument "
                "with option 055 has no logger",
                self.session.where,
            ) from exc

    async def _settled(self, wanted_s: float) -> float:
        """The period the instrument made of the one asked for: a multiple of 20.48 µs."""
        query = f"SENS:ELOG:PER? {self.plan.log}"
        periods_s = await self.session.ask_numbers(query, len(self.plan.logged))
        wrong = abs(periods_s / wanted_s - 1) > PERIOD_TOLERANCE
        if any(wrong) or min(periods_s) != max(periods_s):
            made = ", ".join(f"{period_s:g}" for period_s in periods_s.tolist())
            raise self.session.unlike(f"a period of {wanted_s:g} s", f"{made} s")
        return float(periods_s[0])


class Abreast:
    """Sees that two channels have logged the same number of records.

    Each is asked by itself, so the one asked later may be ahead by what came in between, and
    an update in between shows on one alone; but neither lasts.

    Args:
        period_s: of the records.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._leads: deque[tuple[int, int, float]] = deque()  # when, by how much, most

    def fault(self, lead: int, first: Moment, last: Moment) -> str:
        """What is wrong with the counts; empty while nothing is.

        Args:
            lead: by how many records the channel asked last is ahead; both had no more.
            first: when the other was asked.
            last: when this was.
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
        return f"its channels differ by {min(leads, key=abs)} records for good: some were lost"


class ElogAcquisition(PolledAcquisition):
    """One run of the logger.

    Args:
        logger: its settings, which are checked before the run.
        stream: what becomes of the records.
        clock: the host's clock.
        answer_s: how long the instrument may take to answer.
        limit_a: the DUT's current limit.
        period_s: of its records.
    """

    def __init__(
        self,
        logger: Logger,
        stream: RecordStream,
        clock: Clock,
        answer_s: float,
        limit_a: float,
        period_s: float,
    ) -> None:
        super().__init__(logger.session, stream, clock, answer_s, POLL_S)
        self._logger = logger
        self._plan = logger.plan
        self._limit_a = CLIPPED * limit_a
        self._waiting: list[Rows] = [np.empty((0, 1)) for _ in self._plan.logged]
        self._abreast = Abreast(period_s)

    async def _prepare(self) -> None:
        await self._logger.abort()
        await self._logger.check()
        await self._session.run(
            f"TRIG:ELOG:SOUR BUS,{self._plan.log}", f"INIT:ELOG {self._plan.log}"
        )
        await asyncio.sleep(ARM_S)

    async def _start(self) -> None:
        await self._session.run(f"TRIG:ELOG {self._plan.log}")

    async def _fetch(self) -> tuple[Rows, bool]:
        """Records of every channel logged, side by side, as far as all have them."""
        drained = True
        asked: list[Moment] = []
        for place, channel in enumerate(self._plan.logged):
            fields = 1 + (self._plan.with_voltage and place == 0)
            before_ns = self._clock()
            rows = await self._fetch_from(channel, fields)
            asked.append(Moment(before_ns, self._clock()))
            drained = drained and len(rows) < FETCH_RECORDS
            if place == 0 and not self._plan.with_voltage:
                rows[rows[:, 0] >= self._limit_a] = np.nan  # there the voltage is not the set one
            before = self._waiting[place]
            self._waiting[place] = np.concatenate([before, rows]) if len(before) else rows
        lead = len(self._waiting[-1]) - len(self._waiting[0])
        if drained and (fault := self._abreast.fault(lead, asked[0], asked[-1])):
            raise self._wrong(fault)
        whole = min(map(len, self._waiting))
        rows = np.hstack([waiting[:whole] for waiting in self._waiting])
        self._waiting = [waiting[whole:] for waiting in self._waiting]
        return rows, drained

    async def _fetch_from(self, channel: int, fields: int) -> Rows:
        query = f"FETC:ELOG? {FETCH_RECORDS},(@{channel})"
        block = await self._session.ask_bytes(query)
        errors = await self._session.errors()  # an answer in step vouches for the block before
        if errors:
            raise self._wrong(f"the log failed: {'; '.join(errors)}")
        try:
            return values_of(block, fields)
        except ValueError as exc:
            raise await self._explain(str(exc)) from exc

    async def _halt(self) -> None:
        await self._logger.abort()

    async def _explain(self, problem: str) -> InstrumentError:
        try:
            states = await self._logger.functions()
        except InfraError as fault:
            return self._wrong(f"{problem}; its functions cannot be read: {fault.what}")
        return self._wrong(f"{problem}; functions that log: {told(states)}")

    def _wrong(self, what: str) -> InstrumentError:
        todo = (
            "let no other program or hand at the front panel use the instrument; a host that "
            "comes more than 20 s late loses records too"
        )
        return InstrumentError("elog-records", what, todo, self._where)
