"""What each kind of bench part must do, and how a driver is registered.

A driver is one file: a pure codec above, a thin async class below. It is found by the entry
point group ``labd.drivers``; stations.toml names it. Every ``open`` survives a predecessor
that died half way (drain, resynchronise, identify), every ``close`` leaves the instrument
idle and the port free and may be called twice, every wait has a deadline, and every library
exception is translated into :mod:`labd.core.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from labd.core.model import Finding, Identity, StreamFormat, StreamItem, TimeBase
from labd.protocol.lines import Line


class DriverConfig(BaseModel):
    """Base of every driver's table in stations.toml: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MonitorConfig(DriverConfig):
    """Base of a power monitor's table: what is known of the monitor while it is closed."""

    @property
    def sees_timestamps(self) -> bool:
        """Whether its stream shows the DUT's timestamps; else an I/O manager has to time them.

        Then the stream must have time marks of the host's clock, about one per second.
        """
        return True

    @property
    def supply_range_mv(self) -> tuple[int, int] | None:
        """Lowest and highest voltage the DUT may have on it; ``None`` where that is not known."""
        return None


class IoConfig(DriverConfig):
    """Base of an I/O manager's table: what is known of the board while it is closed."""

    @property
    def times_timestamps(self) -> bool:
        """Whether the DUT's timestamp line is wired to its counter."""
        return False


class Driver(Protocol):
    """What every driver can do."""

    async def open(self) -> Identity:
        """Open the port, bring the device to a known state, say who answered.

        Raises:
            TransportError: the port is missing, busy or goes away.
            InstrumentError: something answers, but not as this protocol.
            DeadlineExceeded: nothing answers.
        """
        ...

    async def self_check(self) -> list[Finding]:
        """Look at the open device; an empty list means nothing to report."""
        ...

    async def close(self) -> None:
        """Leave the device idle and the port free; safe to call twice."""
        ...


RELAY_DAMAGED = "relay-damaged"
"""Code of the :class:`InfraError` for a command that reached a relaying board damaged."""


class CommandChannel(Protocol):
    """Carries DUT commands, one at a time, directly or through an I/O manager.

    ``db_bytes`` is how many payload bytes one ``db`` line may carry on this way. After a
    deadline the channel is out of step, for the late answer may still come: it refuses
    commands until it has been resynchronised or the DUT has booted again.
    """

    db_bytes: int

    async def command(self, text: str, deadline_s: float) -> list[Line]:
        """Send one command (without its ``%``) and return the lines before ``m-ready``.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: no ``m-ready`` in time; the error quotes what did arrive.
            InfraError: ``out-of-step`` after a deadline, ``dut-restarted`` when a boot
                prologue came unasked.
        """
        ...

    async def expect_boot(self) -> None:
        """Make ready for a prologue; call it while the DUT is off, before power or reset.

        What the DUT said before is thrown away. A board that forwards text only while a
        command is open opens one, so that the prologue cannot be taken for a later answer.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: the board does not answer.
        """
        ...

    async def wait_boot(self, deadline_s: float) -> list[Line]:
        """Wait for the prologue after power-on or flashing and return its lines.

        A prologue that passed before, or firmware that has none, is no fault: then the
        channel resynchronises as :meth:`resynchronise` does and returns what it got.

        Raises:
            TransportError: the port went away.
            InstrumentError: the channel cannot get in step.
            DeadlineExceeded: the DUT is silent then too. A board that hears nobody else
                until the DUT speaks stays blocked; the channel refuses commands, and the
                next boot it hears frees it.
        """
        ...

    async def resynchronise(self, deadline_s: float) -> None:
        """Get to a state in which the next reply belongs to the next command.

        Takes ``deadline_s`` at most, and ten seconds more where a board has to be reset.

        Raises:
            TransportError: the port went away.
            InstrumentError: answers do not belong to their commands.
            DeadlineExceeded: the DUT, or the board before it, does not answer.
        """
        ...


class DutPort(Driver, Protocol):
    """The DUT's own serial port."""

    @property
    def channel(self) -> CommandChannel:
        """The way to the DUT while the port is open."""
        ...

    async def set_baud(self, baud: int) -> None:
        """Reopen the port at another speed if it differs."""
        ...


@dataclass(frozen=True, slots=True)
class TimerEdge:
    """A timestamp of the DUT as an I/O manager's own counter saw it.

    Args:
        ticks: the counter, modulo 2^32; see :attr:`IoManager.tick_s`.
        t_ns: host's monotonic time at which the board told it.
    """

    ticks: int
    t_ns: int


class IoManager(Driver, Protocol):
    """The board that relays the DUT's UART and may time its pins."""

    tick_s: ClassVar[float]
    clock_tolerance_ppm: ClassVar[float]  # how far its counter's clock may be off

    @property
    def config(self) -> IoConfig:
        """Its table in stations.toml."""
        ...

    def timestamps(self) -> list[TimerEdge]:
        """The timestamps its counter saw since :meth:`clear_intervals`, in order."""
        ...

    @property
    def channel(self) -> CommandChannel:
        """The way to the DUT through this board."""
        ...

    @property
    def waiting_for_dut(self) -> bool:
        """Whether a command is open: the board hears its DUT alone, as far as is known.

        True after an ``open`` that heard nothing: then a predecessor may have died with a
        command open, and the DUT has to be powered, and :meth:`free` called, before
        anything else. The board's name has not been checked until then.
        """
        ...

    async def free(self, deadline_s: float) -> Identity:
        """Get a waiting board back, now that the DUT is powered, and say who answered.

        Raises:
            TransportError: the port went away.
            InstrumentError: what answers then is not this board.
            DeadlineExceeded: it stays silent; only a reset helps the board.
        """
        ...

    async def set_dut_baud(self, baud: int) -> None:
        """Speak to the DUT at this speed; survives the board's reset if it needs one."""
        ...

    async def clear_intervals(self) -> None:
        """Forget the intervals and timestamps logged so far."""
        ...

    async def intervals(self) -> list[tuple[int, int]]:
        """Start and stop ticks of the DUT's batches since the last clear.

        From its processing pin, or from pairs of timestamps where it times those.
        """
        ...


class Acquisition(Protocol):
    """A running acquisition: what was confirmed, and how far the wire has got.

    Iterating yields the confirmed stream: samples in order from index 0, each index once,
    in a :class:`Samples` or a :class:`Gap`; an edge comes after the samples before it; a
    time mark stands anywhere. An instrument may hold samples back until it can vouch for
    them, so a consumer that waits for the DUT asks ``received`` and ``edges_seen`` and reads
    the stream afterwards. Once the context of :meth:`PowerMonitor.acquire` has ended,
    iteration yields what is left and stops. A fault of the instrument or its port is raised
    by whichever is awaited.
    """

    @property
    def received(self) -> int:
        """Sample periods seen on the wire so far, confirmed or not; never falls."""
        ...

    @property
    def edges_seen(self) -> int:
        """Timestamps seen on the wire so far, confirmed or not, counting those dropped later.

        A timestamp is a falling edge of the format's ``timestamp_line``.
        """
        ...

    def __aiter__(self) -> AsyncIterator[StreamItem]:
        """Yield the confirmed stream; only one iteration at a time."""
        ...

    async def wait_progress(self, deadline_s: float) -> None:
        """Return as soon as ``received`` or ``edges_seen`` has grown since the call.

        Raises:
            TransportError: the port went away.
            InstrumentError: the acquisition stopped by itself.
            DeadlineExceeded: nothing new came in time.
        """
        ...


class PowerMonitor(Driver, Protocol):
    """Measures, and often supplies, the DUT."""

    @property
    def format(self) -> StreamFormat:
        """What the stream's numbers mean; valid after ``open``."""
        ...

    @property
    def supplies(self) -> bool:
        """Whether the DUT's power goes through :meth:`supply`; else somebody else feeds it."""
        ...

    async def supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        Only called where the monitor supplies.

        Raises:
            JobError: the instrument cannot supply this voltage.
        """
        ...

    def acquire(
        self, time_base: TimeBase = TimeBase.HOST
    ) -> AbstractAsyncContextManager[Acquisition]:
        """Start an acquisition; leaving the context stops it and drains the instrument.

        Only one acquisition runs at a time. When the body of the context raised, a fault
        of the instrument while stopping does not hide the body's own exception.

        Args:
            time_base: the clock that the instrument follows. With ``virtual`` the host's
                clock checks no sample count and makes no time marks; a monitor whose samples
                only the host's clock can confirm raises :class:`LabdBug`.
        """
        ...


class Flasher(Driver, Protocol):
    """Puts an image into the DUT's flash."""

    async def flash(self, image: Path) -> None:
        """Write the ELF ``image`` and let the board restart.

        Raises:
            JobError: the image is not one this board can take.
            InstrumentError: the programmer refused or failed.
        """
        ...
