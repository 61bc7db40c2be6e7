"""The interface board driver against the board's documented faults."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from drivers.base.serial_link import Link
from drivers.io_manager import mlcommons_h573 as io_mlcommons
from drivers.io_manager.mlcommons_h573 import MlcommonsInterface, MlcommonsInterfaceConfig
from labd.core.errors import ConfigError, DeadlineExceeded, InfraError, InstrumentError
from labd.core.model import Build
from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments.interface_board import SimulatedInterfaceBoard
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.simulation.virtual_time import PS_PER_US
from labd.station.dut import Dut
from tests.contract.case import plugged


@pytest.fixture
def fake() -> SimulatedDut:
    dut = SimulatedDut(energy=True)
    dut.is_powered = False
    return dut


@pytest.fixture
def board(fake: SimulatedDut) -> SimulatedInterfaceBoard:
    return SimulatedInterfaceBoard.connected_to_dut(fake)


@asynccontextmanager
async def connected(
    board: SimulatedInterfaceBoard, answer_s: float = 0.5, reset_command: Sequence[str] = ()
) -> AsyncGenerator[tuple[MlcommonsInterface, PtyCable]]:
    async with plugged(board) as pty:
        config = MlcommonsInterfaceConfig(
            port=pty.path, answer_s=answer_s, reset_command=tuple(reset_command)
        )
        io = MlcommonsInterface(config)
        await io.open()
        try:
            yield io, pty
        finally:
            await io.close()


@contextmanager
def resettable(board: SimulatedInterfaceBoard) -> Generator[list[str]]:
    """A command that resets the board from another process, as an ST-LINK would."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, board.reset)
    try:
        program = f"import os, signal; os.kill({os.getpid()}, signal.SIGUSR1)"
        yield [sys.executable, "-c", program]
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


def log_interval(board: SimulatedInterfaceBoard, start: int, stop: int) -> None:
    """Raise and lower the DUT's processing pin at these ticks of 10 µs."""
    board.on_processing_edge(start * 10 * PS_PER_US, level=True)
    board.on_processing_edge(stop * 10 * PS_PER_US, level=False)


async def block(board: SimulatedInterfaceBoard, fake: SimulatedDut) -> None:
    """A predecessor died with a command open, and its DUT is dead."""
    async with connected(board) as (io, _):
        await io.command_channel.expect_boot()
        assert io.waiting_for_dut
    fake.is_hung = True


async def test_a_session_through_the_board(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    async with connected(board) as (io, pty):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        profile = await dut.identify(1.0)
        assert (profile.model, profile.build) == ("kws01", Build.ENERGY)
        data = bytes(490)
        await dut.load_input(data)
        assert fake.input == data
        assert (await dut.run_inferences(10, 1, 1.0)).results == fake.results
        assert max(map(len, pty.received.split(b"%"))) < 64
        assert board.resets == 0
        assert await io.self_check() == []


async def test_it_gets_in_step_although_a_prologue_waits_in_the_queue(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    fake.boot()  # powered without expect_boot: every answer would come one command late
    async with connected(board) as (io, _):
        dut = Dut(io.command_channel)
        assert (await dut.identify(1.0)).model == "kws01"
        assert await dut.set_timestamp() is None
        assert board.resets == 1
        assert [finding.code for finding in await io.self_check()] == ["io-resets"]


async def test_a_prologue_left_from_flashing_is_not_taken_for_the_boot(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    fake.boot()  # powered for flashing, then off: its prologue stays in the board's queue
    fake.is_powered = False
    async with connected(board) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        assert (await dut.identify(1.0)).model == "kws01"
        assert await dut.set_timestamp() is None
        assert board.resets == 0


async def test_commands_are_refused_until_the_channel_is_in_step(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    fake.boot()
    async with connected(board) as (io, _):
        with pytest.raises(InfraError, match="earlier commands"):
            await io.command_channel.run_command("name", 1.0)


async def test_a_dut_that_was_on_all_along_is_no_fault(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    fake.is_powered = True
    async with connected(board) as (io, _):
        await io.command_channel.expect_boot()
        await Dut(io.command_channel).wait_for_boot(1.0)
        assert (await Dut(io.command_channel).identify(1.0)).model == "kws01"
        assert board.resets == 0


async def test_a_dead_dut_blocks_the_board_and_power_frees_it(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    async with connected(board, answer_s=0.3) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        fake.is_hung = True
        with pytest.raises(DeadlineExceeded, match="reset the interface board"):
            await dut.run_inferences(10, 1, 0.2)
        with pytest.raises(DeadlineExceeded, match="reset the interface board"):
            await dut.identify(0.2)
        fake.is_powered = False
        await io.command_channel.expect_boot()
        fake.is_hung = False
        fake.boot()
        await dut.wait_for_boot(1.0)
        assert (await dut.identify(1.0)).model == "kws01"
        assert board.resets == 0


async def test_a_predecessor_cut_off_in_a_command_is_no_end(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    """Cancelled or killed during ``dut infer``: the board waits for a DUT that is dark now."""
    async with plugged(board) as pty:
        config = MlcommonsInterfaceConfig(port=pty.path, answer_s=0.3)
        dead = MlcommonsInterface(config)
        await dead.open()
        await dead.command_channel.expect_boot()  # opens a command; then its process dies
        await dead.close()
        heir = MlcommonsInterface(config)
        await heir.open()
        try:
            assert heir.waiting_for_dut
            fake.boot()
            await heir.wait_until_free(2.0)
            assert not heir.waiting_for_dut
            fake.is_powered = False
            await heir.set_dut_baud(9600)
            await heir.command_channel.expect_boot()
            fake.boot()
            dut = Dut(heir.command_channel)
            await dut.wait_for_boot(1.0)
            assert (await dut.identify(1.0)).model == "kws01"
        finally:
            await heir.close()


async def test_a_silent_board_is_reported_with_a_remedy(
    board: SimulatedInterfaceBoard,
) -> None:
    async with plugged(board) as pty:
        config = MlcommonsInterfaceConfig(port=pty.path, answer_s=0.3)
        io = MlcommonsInterface(config)
        await io.open()
        await io.command_channel.expect_boot()
        await io.close()
        io = MlcommonsInterface(config)
        await io.open()
        try:
            with pytest.raises(DeadlineExceeded, match="reset the interface board"):
                await io.wait_until_free(0.6)
        finally:
            await io.close()


async def test_a_waiting_board_is_not_asked_what_it_would_answer_late(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    async with connected(board, answer_s=0.3) as (io, pty):
        await io.set_dut_baud(9600)
        await io.command_channel.expect_boot()
        assert io.waiting_for_dut
        await io.set_dut_baud(9600)  # the speed it is known to have
        for refused in (io.read_intervals(), io.self_check(), io.set_dut_baud(115200)):
            with pytest.raises(DeadlineExceeded, match="reset the interface board"):
                await refused
        for command in (b"print_dutycycle", b"setbaud"):
            assert command not in pty.received
        fake.boot()
        dut = Dut(io.command_channel)
        await dut.wait_for_boot(1.0)
        assert await io.read_intervals() == []
        assert (await dut.identify(1.0)).model == "kws01"
        assert board.resets == 0


async def test_a_cancelled_command_leaves_the_channel_out_of_step(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    async with connected(board) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        fake.is_hung = True
        infer = asyncio.create_task(dut.run_inferences(10, 1, 9.0))
        await asyncio.sleep(0.05)
        infer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await infer
        with pytest.raises(InfraError, match="was not sent"):
            await dut.set_timestamp()
        fake.is_powered = fake.is_hung = False
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        assert (await dut.identify(1.0)).model == "kws01"


async def test_a_late_prologue_is_still_the_boot(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    """When none came in time the channel resynchronises, and may receive it then."""
    async with connected(board) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        asyncio.get_running_loop().call_later(0.5, fake.boot)
        lines = await io.command_channel.wait_boot(0.3)
        assert any("m-init-done" in line.text for line in lines)
        assert (await dut.identify(1.0)).model == "kws01"
        assert board.resets == 0


async def test_a_dut_that_never_boots_ends_in_a_deadline_without_after_effects(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    async with connected(board) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="reset the interface board"):
            await dut.wait_for_boot(0.2)
        assert time.monotonic() - began < 2.0
        with pytest.raises(InfraError, match="was not sent"):
            await dut.set_timestamp()
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        profile = await dut.identify(1.0)
        assert (profile.model, profile.build) == ("kws01", Build.ENERGY)
        assert await io.read_intervals() == []
        assert board.resets == 0


async def test_a_command_that_the_board_received_in_part_blocks_nothing(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    """Lost on its way to the board: the host takes for open what the board never began."""
    async with connected(board) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        receive = board.receive
        board.receive = lambda data: receive(data.replace(b"dut", b"dt"))  # type: ignore[method-assign]
        with pytest.raises(DeadlineExceeded):
            await dut.set_timestamp()
        board.receive = receive  # type: ignore[method-assign]
        assert (await dut.identify(0.5)).model == "kws01"


async def test_a_predecessor_that_died_in_the_word_name_is_survived(
    board: SimulatedInterfaceBoard,
) -> None:
    """``namename`` is a word the board gives no answer to."""
    async with plugged(board) as pty:
        predecessor = Link(pty.path, 115200, "predecessor")
        await predecessor.open()
        await predecessor.write(b"name")
        await predecessor.close()
        io = MlcommonsInterface(MlcommonsInterfaceConfig(port=pty.path, answer_s=0.3))
        await io.open()
        assert not io.waiting_for_dut
        await io.close()


async def test_a_late_answer_ends_its_own_command_only(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    async with connected(board) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        fake.is_hung = True
        with pytest.raises(DeadlineExceeded):
            await dut.run_inferences(10, 1, 0.2)
        fake.is_hung = False
        fake.receive(b"infer 10 1%")
        assert await io.read_intervals() == []
        assert (await dut.identify(1.0)).model == "kws01"
        assert await dut.set_timestamp() is None


async def test_a_restart_of_the_dut_is_detected(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    async with connected(board) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        fake.boot()
        with pytest.raises(InfraError) as caught:
            await dut.set_timestamp()
        assert caught.value.code == "dut-restarted"


async def test_the_baud_rate_is_written_only_when_it_differs(
    board: SimulatedInterfaceBoard,
) -> None:
    async with connected(board) as (io, _):
        await io.set_dut_baud(9600)
        assert board.resets == 0
        await io.set_dut_baud(115200)
        assert (board.resets, board.baud) == (1, 115200)
        await io.set_dut_baud(115200)
        assert board.resets == 1


async def test_intervals_are_cleared_read_and_paired(board: SimulatedInterfaceBoard) -> None:
    async with connected(board) as (io, _):
        await io.clear_intervals()
        board.starts = [4294967290, *range(100, 1000, 100)]
        board.stops = [50, *range(150, 1000, 100)]
        pairs = await io.read_intervals()
        assert pairs[:2] == [(4294967290, 50), (100, 150)]
        assert len(pairs) == 10
        assert MlcommonsInterface.tick_s == 1e-5
        await io.clear_intervals()
        assert await io.read_intervals() == []


async def test_a_lost_interval_edge_is_an_error_not_a_shift(board: SimulatedInterfaceBoard) -> None:
    async with connected(board) as (io, _):
        board.starts, board.stops = [100, 200, 300], [150, 350]
        with pytest.raises(InstrumentError, match="log is damaged"):
            await io.read_intervals()


async def test_another_device_on_the_port_is_named(fake: SimulatedDut) -> None:
    fake.is_powered = True
    fake.energy = False
    with pytest.raises(InstrumentError, match="m-name-dut"):
        async with connected(fake):  # type: ignore[arg-type]
            pytest.fail("a DUT was taken for an interface board")


@pytest.mark.parametrize("count", [0, 1, 7, 8, 16, 20, 99])
async def test_numbers_may_share_a_line_with_each_other_and_with_ready(
    board: SimulatedInterfaceBoard, count: int
) -> None:
    async with connected(board) as (io, _):
        truth = [(1000 * n, 1000 * n + 400) for n in range(count)]
        for start, stop in truth:
            log_interval(board, start, stop)
        assert await io.read_intervals() == truth
        await io.clear_intervals()
        assert await io.read_intervals() == []


async def test_only_the_first_hundred_intervals_are_kept(board: SimulatedInterfaceBoard) -> None:
    async with connected(board) as (io, _):
        board.stops = [2**32 - 50]  # its start lies before the record
        for n in range(150):
            log_interval(board, 100 * n, 100 * n + 60)
        pairs = await io.read_intervals()
        assert pairs == [(100 * n, 100 * n + 60) for n in range(99)]


async def test_a_command_damaged_on_its_way_to_the_board_restarts_the_load(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    async with connected(board) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        waiting = ["dut db 1a"]

        def lose_two_digits(text: str) -> str:
            if waiting and text.startswith(waiting[0]):
                waiting.clear()
                return text[:9] + text[11:]
            return text

        board.corrupt_command = lose_two_digits
        data = bytes(range(245)) * 2
        loaded = await dut.load_input(data)
        assert len(loaded.restarts) == 1
        assert "reached the board as" in loaded.restarts[0]
        assert fake.input == data


async def test_a_board_without_its_sd_card_is_reported(
    board: SimulatedInterfaceBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_mlcommons, "RESET_S", 1.0)
    async with connected(board) as (io, _):
        board.has_sd_card = False
        with pytest.raises(DeadlineExceeded, match="SD card"):
            await io.set_dut_baud(115_200)
    async with connected(board) as (io, _):
        assert io.waiting_for_dut
        with pytest.raises(DeadlineExceeded, match="SD card"):
            await io.wait_until_free(0.6)


async def test_the_end_of_an_old_reply_at_opening_is_no_answer(
    board: SimulatedInterfaceBoard,
) -> None:
    async with plugged(board) as pty:
        pty.send(b"23, 4294967290, 17, \r\nDuty cycle st")
        asyncio.get_running_loop().call_later(0.05, pty.send, b"op times (s)\r\n9, m-ready\r\nm-r")
        io = MlcommonsInterface(MlcommonsInterfaceConfig(port=pty.path, answer_s=0.5))
        await io.open()
        assert not io.waiting_for_dut
        assert await io.read_intervals() == []
        await io.close()


async def test_a_blocked_board_is_reset_at_opening_by_the_operators_command(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    await block(board, fake)
    with resettable(board) as command:
        async with connected(board, reset_command=command) as (io, _):
            assert not io.waiting_for_dut
            assert board.resets == 1
            assert [finding.code for finding in await io.self_check()] == ["io-resets"]
            fake.is_hung = fake.is_powered = False
            dut = Dut(io.command_channel)
            await io.command_channel.expect_boot()
            fake.boot()
            await dut.wait_for_boot(1.0)
            assert (await dut.identify(1.0)).model == "kws01"


async def test_a_board_blocked_by_a_dead_dut_is_reset_by_the_operators_command(
    fake: SimulatedDut, board: SimulatedInterfaceBoard
) -> None:
    with resettable(board) as command:
        async with connected(board, reset_command=command) as (io, _):
            dut = Dut(io.command_channel)
            await io.command_channel.expect_boot()
            fake.boot()
            await dut.wait_for_boot(1.0)
            fake.is_hung = True
            with pytest.raises(DeadlineExceeded):
                await dut.run_inferences(10, 1, 0.2)
            assert board.resets == 0
            fake.is_hung = False  # it lost the command, but is alive
            assert (await dut.identify(1.0)).model == "kws01"
            assert board.resets == 1


async def test_a_board_that_answers_is_never_reset_by_command(
    fake: SimulatedDut, board: SimulatedInterfaceBoard, tmp_path: Path
) -> None:
    proof = tmp_path / "ran"
    async with connected(board, reset_command=["touch", str(proof)]) as (io, _):
        dut = Dut(io.command_channel)
        await io.command_channel.expect_boot()
        fake.boot()
        await dut.wait_for_boot(1.0)
        assert (await dut.identify(1.0)).model == "kws01"
        await io.set_dut_baud(115_200)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("command", "error", "said"),
    [
        (["no-such-flasher"], ConfigError, "no-such-flasher"),
        ([sys.executable, "-c", "raise SystemExit('no probe')"], InstrumentError, "no probe"),
        ([sys.executable, "-c", "import time; time.sleep(99)"], DeadlineExceeded, "did not end"),
        (["true"], DeadlineExceeded, "SD card"),
    ],
)
async def test_a_reset_command_that_fails_is_reported(
    fake: SimulatedDut,
    board: SimulatedInterfaceBoard,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    error: type[Exception],
    said: str,
) -> None:
    monkeypatch.setattr(io_mlcommons, "RESET_S", 1.0)
    monkeypatch.setattr(io_mlcommons, "RESET_COMMAND_S", 2.0)
    await block(board, fake)
    with pytest.raises(error, match=said):
        async with connected(board, reset_command=command):
            pytest.fail("it opened all the same")
