"""The Arduino UNO driver against a board with the habits the published logs show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from drivers.io_manager.eembc_uno import EembcChannel, EembcIoManager, EembcIoManagerConfig
from labd.core.errors import ConfigError, DeadlineExceeded, InfraError, InstrumentError
from labd.core.model import Build
from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments.eembc_uno import SimulatedEembcUno
from labd.simulation.instruments.interface_board import SimulatedInterfaceBoard
from labd.simulation.instruments.reference_dut import FirmwareQuirks, SimulatedDut
from labd.simulation.virtual_time import LoopAgenda
from labd.station.dut import Dut
from tests.contract.case import plugged


@pytest.fixture
def fake() -> SimulatedDut:
    dut = SimulatedDut(energy=True)
    dut.is_powered = False
    return dut


@pytest.fixture
def board(fake: SimulatedDut) -> SimulatedEembcUno:
    return SimulatedEembcUno(fake, agenda=LoopAgenda(real_time=True))


@asynccontextmanager
async def connected(
    board: SimulatedEembcUno, *, timestamp_wire: bool = False
) -> AsyncGenerator[tuple[EembcIoManager, PtyCable]]:
    async with plugged(board) as pty:
        config = EembcIoManagerConfig(
            port=pty.path, answer_s=3.0, boot_s=2.0, timestamp_wire=timestamp_wire
        )
        io = EembcIoManager(config)
        await io.open()
        try:
            yield io, pty
        finally:
            await io.close()


async def booted(io: EembcIoManager, fake: SimulatedDut) -> Dut:
    dut = Dut(io.command_channel)
    await io.command_channel.expect_boot()
    fake.boot()
    await dut.wait_for_boot(1.0)
    return dut


def late(delay_s: float, call: Callable[[bytes], None], data: bytes) -> None:
    asyncio.get_running_loop().call_later(delay_s, call, data)


def once(start: str, corrupt: Callable[[str], str]) -> Callable[[str], str]:
    """Corrupt the first command that begins like this, and let all others pass."""
    waiting = [start]

    def pass_on(text: str) -> str:
        if waiting and text.startswith(waiting[0]):
            waiting.clear()
            return corrupt(text)
        return text

    return pass_on


def reset_when_opened(io: EembcIoManager, board: SimulatedEembcUno, boot_s: float) -> None:
    """Give the pseudo-terminal what a USB port has: opening it resets the Arduino."""
    take_port = io._link.open

    async def take_and_reset() -> None:
        await take_port()
        board.reset(boot_s)

    io._link.open = take_and_reset  # type: ignore[method-assign]


async def test_a_session_through_the_board(fake: SimulatedDut, board: SimulatedEembcUno) -> None:
    async with connected(board) as (io, pty):
        dut = await booted(io, fake)
        profile = await dut.identify(1.0)
        assert (profile.model, profile.build) == ("kws01", Build.ENERGY)
        data = bytes(range(245)) * 2
        assert (await dut.load_input(data)).restarts == ()
        assert fake.input == data
        assert (await dut.run_inferences(10, 1, 1.0)).results == fake.results
        assert max(map(len, pty.received.split(b"%"))) < 64
        assert await io.self_check() == []
        assert (io.waiting_for_dut, io.config.times_timestamps) == (False, False)


async def test_a_board_that_boots_when_the_port_opens_is_waited_for(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with plugged(board) as pty:
        io = EembcIoManager(EembcIoManagerConfig(port=pty.path, answer_s=0.5, boot_s=4.0))
        reset_when_opened(io, board, boot_s=1.2)
        identity = await io.open()
        assert (identity.name, identity.firmware) == (
            "m-name-[io-manager]",
            "m-version-[1.0.3-simulated]",
        )
        assert (await (await booted(io, fake)).identify(1.0)).model == "kws01"
        assert board.resets == 1
        await io.close()


async def test_a_board_that_does_not_boot_in_time_is_reported(board: SimulatedEembcUno) -> None:
    async with plugged(board) as pty:
        io = EembcIoManager(EembcIoManagerConfig(port=pty.path, answer_s=0.5, boot_s=0.7))
        reset_when_opened(io, board, boot_s=9.0)
        with pytest.raises(DeadlineExceeded, match="io-manager image"):
            await io.open()


async def test_late_text_of_the_dut_at_opening_is_no_answer(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    """A predecessor died in an inference, which goes on behind the board's reset."""
    fake.is_powered = True
    async with connected(board) as (io, _):
        fake.receive(b"infer 10 1%")
        assert (await Dut(io.command_channel).identify(2.0)).model == "kws01"
        assert await Dut(io.command_channel).set_timestamp() is None


async def test_commands_are_refused_until_the_channel_is_in_step(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    fake.boot()
    async with connected(board) as (io, _):
        with pytest.raises(InfraError, match="earlier commands"):
            await io.command_channel.run_command("name", 1.0)


async def test_a_dut_that_was_on_all_along_is_no_fault(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    fake.is_powered = True
    async with connected(board) as (io, _):
        assert await io.command_channel.wait_boot(0.3) == []
        assert (await Dut(io.command_channel).identify(1.0)).model == "kws01"
        fake.is_hung = True
        with pytest.raises(DeadlineExceeded):  # being in step before proves nothing now
            await io.command_channel.wait_boot(0.3)


async def test_a_slow_duts_answers_to_repeated_questions_are_awaited(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    fake.is_powered = True
    receive = fake.receive
    fake.receive = lambda data: late(1.3, receive, data)  # type: ignore[method-assign]
    async with connected(board) as (io, _):
        assert (await Dut(io.command_channel).identify(6.0)).model == "kws01"
        assert fake.commands == ["name", "name", "name", "profile"]


async def test_a_prologue_with_a_name_is_no_answer_to_name(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    """As that of the Arty A7: the answer proper comes after it."""
    fake.is_powered = True
    receive, due_s = fake.receive, 0.0

    def slowly(data: bytes) -> None:
        nonlocal due_s
        now_s = asyncio.get_running_loop().time()
        due_s = max(due_s, now_s) + 0.3
        late(due_s - now_s, receive, data)

    def boot_first(data: bytes) -> None:
        fake.receive = slowly  # type: ignore[method-assign]
        board._forward_dut_text(b"m-name-dut-[Arty]\r\nm-init-done\r\nm-ready\r\n")
        slowly(data)

    fake.receive = boot_first  # type: ignore[method-assign]
    async with connected(board) as (io, _):
        assert (await Dut(io.command_channel).identify(6.0)).name == "simulated"


async def test_the_speed_to_the_dut_cannot_be_set(board: SimulatedEembcUno) -> None:
    async with connected(board) as (io, _):
        await io.set_dut_baud(9600)
        with pytest.raises(ConfigError, match="9600 only") as caught:
            await io.set_dut_baud(115_200)
        assert "`dut` port" in caught.value.remedy


async def test_only_falling_edges_are_timed_and_only_if_wired(
    board: SimulatedEembcUno,
) -> None:
    async with connected(board, timestamp_wire=True):
        assert (board.both_edges, board.timer) == (False, True)
        assert board.commands[-2:] == ["tm 0", "enable-timer"]
    assert not board.timer
    async with connected(board) as (io, _):
        assert not board.timer
        with pytest.raises(ConfigError, match="not wired"):
            await io.read_intervals()


async def test_timestamps_come_between_the_lines_of_a_reply_and_disturb_none(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with connected(board, timestamp_wire=True) as (io, _):
        dut = await booted(io, fake)
        await io.clear_intervals()
        before_us = fake.now_us
        reply = await dut.run_inferences(10, 1, 1.0)
        assert all("lap" not in line.text for line in reply.lines)
        assert reply.laps_us is None
        edges = io.logged_timestamps()
        assert [edge.ticks for edge in edges] == [before_us, before_us + 10 * fake.us_per_inference]
        assert all(edge.t_ns > 0 for edge in edges)
        assert await io.read_intervals() == [(edges[0].ticks, edges[1].ticks)]
        assert EembcIoManager.tick_s == 1e-6
        await io.clear_intervals()
        assert (io.logged_timestamps(), await io.read_intervals()) == ([], [])


async def test_an_unexpected_timestamp_is_logged_and_no_line_is_lost(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with connected(board, timestamp_wire=True) as (io, _):
        dut = await booted(io, fake)
        await io.clear_intervals()
        board.on_timestamp_pulse()
        fake.boot()  # pulses, and its text is not lost by looking for timestamps
        await asyncio.sleep(0.05)
        assert len(io.logged_timestamps()) == 2
        with pytest.raises(InfraError) as caught:
            await dut.set_timestamp()
        assert caught.value.code == "dut-restarted"


async def test_reading_timestamps_takes_nothing_from_a_waiting_command(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with connected(board, timestamp_wire=True) as (io, _):
        dut = await booted(io, fake)
        fake.is_hung = True
        infer = asyncio.create_task(dut.run_inferences(10, 1, 2.0))
        await asyncio.sleep(0.1)
        fake.is_hung = False
        fake.receive(b"infer 10 1%")
        while not infer.done():
            io.logged_timestamps()
            await asyncio.sleep(0)
        assert (await infer).results == fake.results


async def test_a_reset_board_restarts_its_counter(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with connected(board, timestamp_wire=True) as (io, _):
        await (await booted(io, fake)).set_timestamp()
        assert len(io.logged_timestamps()) == 2
        await io.reset()
        assert io.logged_timestamps() == []
        assert board.timer


async def test_the_counter_wraps_between_two_timestamps(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    fake.quirks = FirmwareQuirks(first_lap=2**32 - 5)
    async with connected(board, timestamp_wire=True) as (io, _):
        dut = await booted(io, fake)
        await io.clear_intervals()
        await dut.run_inferences(10, 1, 1.0)
        assert await io.read_intervals() == [(2**32 - 5, 10 * fake.us_per_inference - 5)]


async def test_a_lost_timestamp_is_an_error_not_a_shift(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with connected(board, timestamp_wire=True) as (io, _):
        dut = await booted(io, fake)
        await io.clear_intervals()
        await dut.run_inferences(10, 1, 1.0)
        board.edit_lap_text = lambda _: "e"
        await dut.set_timestamp()
        board.edit_lap_text = lambda text: text
        await dut.set_timestamp()
        with pytest.raises(InstrumentError, match="do not pair"):
            await io.read_intervals()


@pytest.mark.parametrize("damaged", ["m-lap-us-12x4", "m-lap-us-", "m-lap-us-9999999999"])
async def test_a_damaged_timestamp_is_refused_until_cleared(
    fake: SimulatedDut, board: SimulatedEembcUno, damaged: str
) -> None:
    async with connected(board, timestamp_wire=True) as (io, _):
        dut = await booted(io, fake)
        board.edit_lap_text = lambda _: damaged
        assert await dut.set_timestamp() is None
        with pytest.raises(InstrumentError, match=damaged):
            io.logged_timestamps()
        with pytest.raises(InstrumentError, match=damaged):
            await io.read_intervals()
        await io.clear_intervals()
        assert io.logged_timestamps() == []


async def test_a_restart_of_the_dut_is_detected_during_the_boards_own_commands(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with connected(board) as (io, _):
        dut = await booted(io, fake)
        fake.boot()
        await io.self_check()
        with pytest.raises(InfraError) as caught:
            await dut.set_timestamp()
        assert caught.value.code == "dut-restarted"


async def test_a_restart_between_sending_and_the_boards_answer_is_detected(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with connected(board) as (io, _):
        dut = await booted(io, fake)

        def boot(text: str) -> str:
            fake.boot()
            return text

        board.corrupt_command = once("dut timestamp", boot)
        with pytest.raises(InfraError) as caught:
            await dut.set_timestamp()
        assert caught.value.code == "dut-restarted"


async def test_a_restart_in_a_command_is_detected(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with connected(board) as (io, _):
        dut = await booted(io, fake)
        fake.after_command = lambda _: fake.boot()
        with pytest.raises(InfraError) as caught:
            await dut.run_inferences(10, 1, 1.0)
        assert caught.value.code == "dut-restarted"
        fake.after_command = lambda _: None
        assert (await dut.identify(3.0)).model == "kws01"


@pytest.mark.parametrize("blocks", [False, True])
async def test_a_dead_dut_ends_in_a_deadline_and_power_brings_it_back(
    fake: SimulatedDut, board: SimulatedEembcUno, *, blocks: bool
) -> None:
    board.waits_for_dut = blocks
    async with connected(board) as (io, _):
        reset_when_opened(io, board, boot_s=0.3)
        dut = await booted(io, fake)
        fake.is_hung = True
        with pytest.raises(DeadlineExceeded, match="power-cycle"):
            await dut.run_inferences(10, 1, 0.2)
        with pytest.raises(InfraError, match="was not sent"):
            await dut.set_timestamp()
        with pytest.raises(DeadlineExceeded, match="level shifters"):
            await dut.identify(0.5)
        fake.is_powered = fake.is_hung = False
        dut = await booted(io, fake)
        assert (await dut.identify(1.0)).model == "kws01"
        assert await dut.set_timestamp() is None
        assert bool(board.resets) is blocks
        assert [finding.code for finding in await io.self_check()] == ["io-resets"] * blocks


async def test_an_answer_that_comes_late_is_not_the_next_commands(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    async with connected(board) as (io, _):
        dut = await booted(io, fake)
        fake.is_hung = True
        infer = asyncio.create_task(dut.run_inferences(10, 1, 9.0))
        await asyncio.sleep(0.05)
        infer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await infer
        receive, fake.receive = fake.receive, lambda _: None  # type: ignore[method-assign]

        def finish() -> None:
            fake.is_hung, fake.receive = False, receive  # type: ignore[method-assign]
            fake.receive(b"infer 10 1%")

        asyncio.get_running_loop().call_later(0.3, finish)
        assert (await dut.identify(4.0)).model == "kws01"
        assert await dut.set_timestamp() is None


async def test_a_command_damaged_on_its_way_to_the_dut_restarts_the_load(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    """Half duplex: the board's sending was disturbed by a DUT that talked."""
    fake.corrupt_command = once("db 1a", lambda text: text[4:])
    async with connected(board) as (io, _):
        dut = await booted(io, fake)
        data = bytes(range(245)) * 2
        loaded = await dut.load_input(data)
        assert len(loaded.restarts) == 1
        assert "Unknown command" in loaded.restarts[0]
        assert fake.input == data


async def test_a_command_damaged_on_its_way_to_the_board_shows_in_its_echo(
    fake: SimulatedDut, board: SimulatedEembcUno
) -> None:
    """Two digits lost leave an even number, which the DUT would take without a word."""
    async with connected(board) as (io, _):
        dut = await booted(io, fake)
        board.corrupt_command = once("dut db 1a", lambda text: text[:9] + text[11:])
        data = bytes(range(245)) * 2
        loaded = await dut.load_input(data)
        assert len(loaded.restarts) == 1
        assert "reached the board as" in loaded.restarts[0]
        assert fake.input == data
        board.corrupt_command = lambda text: text.replace("infer 10", "infer 1")
        with pytest.raises(InfraError) as caught:
            await dut.run_inferences(10, 1, 1.0)
        assert caught.value.code == "relay-damaged"
        board.corrupt_command = lambda text: text
        assert await dut.set_timestamp() is None


async def test_other_boards_on_the_port_are_named(fake: SimulatedDut) -> None:
    for other in (SimulatedInterfaceBoard.connected_to_dut(fake), SimulatedDut()):
        with pytest.raises(InstrumentError, match="not an EEMBC io-manager"):
            async with connected(other):  # type: ignore[arg-type]
                pytest.fail("it was taken for an io-manager")


async def test_the_channel_needs_an_open_port(board: SimulatedEembcUno) -> None:
    async with connected(board) as (io, _):
        assert isinstance(io.command_channel, EembcChannel)
    with pytest.raises(Exception, match="not open"):
        _ = io.command_channel
