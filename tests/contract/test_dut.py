"""The DUT driver against firmware as the published logs show it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from drivers.base.serial_link import Link
from drivers.serial_dut import SerialDut, SerialDutConfig
from labd.core.errors import DeadlineExceeded, DutError, InfraError, LabdBug
from labd.core.model import Build
from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments.reference_dut import KNOWN_FIRMWARES, FirmwareQuirks, SimulatedDut
from labd.station.dut import Dut
from tests.contract.case import plugged

INPUT = bytes(range(256)) * 2


@asynccontextmanager
async def connected(fake: SimulatedDut) -> AsyncGenerator[tuple[Dut, PtyCable]]:
    async with plugged(fake) as pty:
        port = SerialDut(SerialDutConfig(port=pty.path))
        await port.open()
        try:
            yield Dut(port.command_channel, answer_s=3.0), pty
        finally:
            await port.close()


@pytest.fixture(params=KNOWN_FIRMWARES.values(), ids=KNOWN_FIRMWARES.keys())
def habits(request: pytest.FixtureRequest) -> FirmwareQuirks:
    return request.param


async def test_a_session_with_every_observed_firmware(habits: FirmwareQuirks) -> None:
    fake = SimulatedDut(habits)
    async with connected(fake) as (dut, _):
        fake.boot()
        await dut.wait_for_boot(1.0)
        profile = await dut.identify(1.0)
        assert (profile.name, profile.model) == ("simulated", "kws01")
        assert profile.build is Build.PERFORMANCE
        assert await dut.set_timestamp() is not None
        assert (await dut.load_input(INPUT)).restarts == ()
        assert fake.input == INPUT
        reply = await dut.run_inferences(70, 0, 1.0)
        assert reply.runtime_us == 70 * fake.us_per_inference
        assert reply.results == fake.results
        assert reply.start_ns <= reply.done_ns


async def test_an_energy_build_pulses_and_prints_no_laps() -> None:
    fake = SimulatedDut(energy=True)
    async with connected(fake) as (dut, _):
        fake.boot()
        await dut.wait_for_boot(1.0)
        assert (await dut.identify(1.0)).build is Build.ENERGY
        assert await dut.set_timestamp() is None
        await dut.load_input(INPUT)
        assert (await dut.run_inferences(10, 1, 1.0)).laps_us is None
        assert fake.pulses == 1 + 1 + 2


async def test_commands_are_sent_complete_and_one_at_a_time() -> None:
    fake = SimulatedDut()
    async with connected(fake) as (dut, pty):
        await dut.identify(1.0)
        pty.received = b""
        await dut.load_input(INPUT)
        await dut.run_inferences(3, 2, 1.0)
        assert b"\n" not in pty.received
        assert pty.received.startswith(b"db load 512%db 00010203")
        assert pty.received.endswith(b"%infer 3 2%")
        assert max(map(len, pty.received.split(b"%"))) <= 80


async def test_a_missed_or_missing_prologue_is_no_fault() -> None:
    async with connected(SimulatedDut()) as (dut, _):
        assert await dut.wait_for_boot(0.2) == []
        assert (await dut.identify(1.0)).build is None


async def test_a_stale_prologue_does_not_answer_the_name() -> None:
    fake = SimulatedDut()
    async with connected(fake) as (dut, _):
        fake.boot()
        profile = await dut.identify(2.0)
        assert (profile.name, profile.model) == ("simulated", "kws01")


class LateDut(SimulatedDut):
    """Takes its time for each ``name``; answers everything in order."""

    def __init__(self, *delays_s: float, prologue: bytes = b"") -> None:
        super().__init__()
        self._delays_s = list(delays_s)
        self._prologue = prologue
        self._free_at = 0.0

    def receive(self, data: bytes) -> None:
        self.send(self._prologue)
        self._prologue = b""
        loop = asyncio.get_running_loop()
        delay_s = self._delays_s.pop(0) if self._delays_s and data == b"name%" else 0.0
        self._free_at = max(self._free_at, loop.time() + delay_s)
        loop.call_at(self._free_at, super().receive, data)


async def test_a_prologue_with_the_name_is_not_the_answer() -> None:
    """Seen on an Arty A7: its prologue holds ``m-name-…`` and ``m-profile-…``."""
    prologue = b"m-name-dut-[Xilinx]\r\nm-init-done\r\nm-ready\r\n"
    async with connected(LateDut(0.1, 0.5, prologue=prologue)) as (dut, _):
        profile = await dut.identify(5.0)
        assert (profile.name, profile.model) == ("simulated", "kws01")


async def test_answers_to_repeated_questions_are_awaited() -> None:
    """A busy DUT answers the repeats too, when it is done."""
    async with connected(LateDut(1.3, 0.5, 0.5)) as (dut, _):
        profile = await dut.identify(5.0)
        assert (profile.name, profile.model) == ("simulated", "kws01")


def damage(nth: int, how: Callable[[str], str]) -> Callable[[str], str]:
    """Corrupt the n-th ``db`` line on its way to the DUT."""
    seen = 0

    def corrupt(text: str) -> str:
        nonlocal seen
        if not text.startswith("db ") or text.startswith("db load"):
            return text
        seen += 1
        return how(text) if seen == nth else text

    return corrupt


@pytest.mark.parametrize("nth", [1, 7, 14])
@pytest.mark.parametrize(
    "how",
    [lambda text: text[:-1], lambda text: text[:-2], lambda text: text[1:], lambda _: "db zz"],
    ids=["digit", "byte", "command", "garbage"],
)
async def test_a_damaged_load_is_restarted_and_counted(nth: int, how: Callable[[str], str]) -> None:
    fake = SimulatedDut()
    async with connected(fake) as (dut, _):
        await dut.identify(1.0)
        fake.corrupt_command = damage(nth, how)
        reply = await dut.load_input(INPUT)
        assert len(reply.restarts) == 1
        assert fake.input == INPUT


async def test_a_load_damaged_every_time_is_the_benchs_fault() -> None:
    fake = SimulatedDut()
    async with connected(fake) as (dut, _):
        await dut.identify(1.0)
        fake.corrupt_command = lambda text: text[:-1] if text.startswith("db 0") else text
        with pytest.raises(InfraError, match="Insufficent number of hex digits"):
            await dut.load_input(INPUT)
        assert fake.commands.count("db load 512") == 3


async def test_firmware_without_db_is_the_firmwares_fault() -> None:
    fake = SimulatedDut()
    async with connected(fake) as (dut, _):
        await dut.identify(1.0)
        fake.corrupt_command = lambda _: "db"
        fake._load_input = lambda _: fake._print_line("e-[Unknown command: db]")  # type: ignore[method-assign]
        with pytest.raises(DutError, match="Unknown command: db"):
            await dut.load_input(INPUT)


async def test_an_empty_load_is_refused_before_the_wire() -> None:
    fake = SimulatedDut()
    async with connected(fake) as (dut, _):
        with pytest.raises(LabdBug):
            await dut.load_input(b"")
        assert fake.commands == []


async def test_a_short_input_fails_although_the_firmware_runs_on() -> None:
    fake = SimulatedDut()
    async with connected(fake) as (dut, _):
        await dut.identify(1.0)
        await dut.load_input(INPUT)
        fake.input = fake.input[:-3]
        with pytest.raises(DutError, match="Input db has 509 elemented, expected 512"):
            await dut.run_inferences(10, 1, 1.0)


async def test_a_hung_dut_ends_in_a_deadline_and_its_late_answer_is_not_taken() -> None:
    fake = SimulatedDut()
    async with connected(fake) as (dut, _):
        await dut.identify(1.0)
        fake.is_hung = True
        with pytest.raises(DeadlineExceeded, match="infer 10 1"):
            await dut.run_inferences(10, 1, 0.2)
        fake.is_hung = False
        fake.receive(b"infer 10 1%")  # it finishes after all
        with pytest.raises(InfraError, match="was not sent"):
            await dut.set_timestamp()
        assert (await dut.identify(2.0)).name == "simulated"
        assert await dut.set_timestamp() is not None


async def test_a_restart_in_a_command_is_detected_despite_its_ready() -> None:
    fake = SimulatedDut()
    async with connected(fake) as (dut, _):
        await dut.identify(1.0)
        await dut.load_input(INPUT)
        fake.boot()  # a brown-out between two commands
        await asyncio.sleep(0.05)
        with pytest.raises(InfraError) as caught:
            await dut.run_inferences(10, 1, 1.0)
        assert caught.value.code == "dut-restarted"


async def test_another_baud_rate_reopens_the_port() -> None:
    fake = SimulatedDut()
    async with plugged(fake) as pty:
        port = SerialDut(SerialDutConfig(port=pty.path))
        await port.set_baud(921600)
        await port.open()
        await port.set_baud(9600)
        assert (await Dut(port.command_channel).identify(1.0)).model == "kws01"
        await port.close()


async def test_a_dut_behind_a_socket_works_alike_and_is_not_simulated() -> None:
    fake = SimulatedDut()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fake.send = writer.write
        while data := await reader.read(100):
            fake.receive(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    number = server.sockets[0].getsockname()[1]
    port = SerialDut(SerialDutConfig(port=f"socket://127.0.0.1:{number}"))
    assert not (await port.open()).simulated
    assert (await Dut(port.command_channel).identify(2.0)).model == "kws01"
    await port.close()
    server.close()
    await server.wait_closed()


async def test_a_flood_of_bytes_does_not_fill_the_memory() -> None:
    async with plugged(SimulatedDut()) as pty:
        link = Link(pty.path, 115200, "test")
        await link.open()
        flood = b"0123456789abcdef" * 65536 * 3
        pty.send(flood)
        await asyncio.sleep(0.3)
        held = link.take_arrived_chunks()
        assert sum(len(chunk.data) for chunk in held) < len(flood)
        rest = await link.read_until_quiet(0.2, 10.0)
        assert b"".join(chunk.data for chunk in held) + rest == flood
        await link.close()
