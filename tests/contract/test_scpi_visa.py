"""SCPI through VISA: pyvisa-py against a HiSLIP server, pyvisa-sim for other interfaces."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drivers.n6705.config import N6705Config
from drivers.n6705.driver import N6705
from drivers.scpi.session import ScpiSession
from drivers.scpi_meter.config import ScpiMeterConfig
from drivers.scpi_meter.driver import ScpiMeter
from labd.aio.host_time import host_time_ns
from labd.core.errors import DeadlineExceeded, InstrumentError, LabdBug, TransportError
from labd.core.model import Samples, TimeMark
from labd.simulation.hislip_cable import HislipCable
from labd.simulation.instruments import synthetic_load
from labd.simulation.instruments.n6705 import TICK_S, SimulatedN6705
from labd.simulation.instruments.scpi_meter import SimulatedScpiMeter
from tests.contract.case import plugged

PERIOD_S = 49 * TICK_S
USB = "USB0::0x05E6::0x2450::04412345::INSTR"
GPIB = "GPIB0::5::INSTR"
VXI11 = "TCPIP0::10.0.0.7::inst0::INSTR"
SIMULATION = """
spec: "1.1"
devices:
  smu:
    eom:
      USB INSTR: {q: "\\n", r: "\\n"}
      GPIB INSTR: {q: "\\n", r: "\\n"}
      TCPIP INSTR: {q: "\\n", r: "\\n"}
    error: ERROR
    dialogues:
      - {q: "*IDN?", r: "KEITHLEY INSTRUMENTS,MODEL 2450,04412345,1.7.12b"}
      - {q: "*RST"}
      - {q: "SYST:ERR?", r: "0,\\"No error\\""}
      - {q: "OUTP ON"}
      - {q: "OUTP OFF"}
      - {q: "INIT"}
      - {q: "ABOR"}
      - {q: "FETC?", r: "#224+1.0E-03,+2.0E-03,9.9E37"}
      - {q: "HEX?", r: "#H1F"}
    properties:
      volts:
        default: 0.0
        getter: {q: "SOUR:VOLT?", r: "{:.3f}"}
        setter: {q: "SOUR:VOLT {:.3f}"}
        specs: {min: 0, max: 20, type: float}
resources:
  USB0::0x05E6::0x2450::04412345::0::INSTR: {device: smu}
  GPIB0::5::INSTR: {device: smu}
  TCPIP0::10.0.0.7::inst0::INSTR: {device: smu}
"""


@pytest.fixture
def simulation(tmp_path: Path) -> str:
    path = tmp_path / "smu.yaml"
    path.write_text(SIMULATION)
    return f"{path}@sim"


def meter_at(resource: str, visa: str) -> ScpiMeter:
    table = {
        "resource": resource,
        "visa": visa,
        "expect": "MODEL 2450",
        "rate_hz": 1000,
        "setup": ["*RST"],
        "supply_on": ["SOUR:VOLT {volts:.3f}", "OUTP ON"],
        "supply_off": ["OUTP OFF"],
        "start": ["INIT"],
        "read": "FETC?",
        "stop": ["ABOR"],
        "answer_s": 0.5,
    }
    return ScpiMeter(ScpiMeterConfig.model_validate(table))


# ---- pyvisa-py, HiSLIP -------------------------------------------------------------------


async def test_an_n6705_measures_through_visa_as_through_a_socket() -> None:
    fake = SimulatedN6705(clock=lambda: host_time_ns() / 1e9)
    async with plugged(fake, HislipCable) as cable:
        monitor = N6705(N6705Config(resource=cable.path, answer_s=2.0))
        await monitor.open()
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            start_s = fake.channels[1].triggered_s
            assert start_s is not None
            while acquisition.received_samples < 1500:
                await acquisition.wait_progress(2.0)
        items = [item async for item in acquisition]
        await monitor.close()
        assert not fake.is_powered
    currents = [item.current_a for item in items if isinstance(item, Samples)]
    measured = np.concatenate([current for current in currents if current is not None])
    times_s = start_s + (np.arange(len(measured)) + 0.5) * PERIOD_S
    np.testing.assert_array_equal(
        measured, synthetic_load.synthetic_current_a(times_s).astype(np.float32)
    )
    marks = [item for item in items if isinstance(item, TimeMark)]
    assert len(marks) >= 2
    for mark in marks:
        true_ns = start_s * 1e9 + mark.index * PERIOD_S * 1e9
        assert abs(mark.t_ns - true_ns) <= mark.uncertainty_ns + 1


async def test_an_answer_ends_with_its_message() -> None:
    """So it needs no line feed, and a block needs no length."""
    fake = SimulatedScpiMeter()
    fake.framing = "indefinite"
    async with plugged(fake, HislipCable) as cable:
        fake.send = lambda data: cable.send(data.removesuffix(b"\n"))
        table = {
            "resource": cable.path,
            "expect": "SMU-1",
            "rate_hz": 1000,
            "voltage_mv": 3000,
            "setup": ["*RST", "FORM REAL,64"],
            "start": ["INIT"],
            "read": "FETC?",
            "stop": ["ABOR"],
            "format": "real64",
            "answer_s": 2.0,
        }
        meter = ScpiMeter(ScpiMeterConfig.model_validate(table))
        await meter.open()
        fake.is_powered = True
        async with meter.acquire() as acquisition:
            start_s = fake.started_s
            assert start_s is not None
            while acquisition.received_samples < 300:
                await acquisition.wait_progress(2.0)
        items = [item async for item in acquisition]
        await meter.close()
    measured = np.concatenate([item.power_w for item in items if isinstance(item, Samples)])
    times_s = start_s + (np.arange(len(measured)) + 0.5) / 1000
    np.testing.assert_allclose(
        measured, synthetic_load.synthetic_current_a(times_s) * 3.0, rtol=1e-9
    )


async def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    fake = SimulatedN6705()
    async with plugged(fake, HislipCable) as cable:
        monitor = N6705(N6705Config(resource=cable.path, answer_s=0.4))
        await monitor.open()
        fake.delay_s = 0.7
        with pytest.raises(DeadlineExceeded):
            await monitor.set_dut_supply(3000)
        fake.delay_s = 0.0
        await asyncio.sleep(0.5)
        await monitor.set_dut_supply(2500)
        assert fake.channels[1].volts == 2.5
        await monitor.close()


async def test_the_next_call_waits_for_an_abandoned_one() -> None:
    """A cancelled call runs on in its thread; the next must not run beside it."""
    fake = SimulatedN6705()
    async with plugged(fake, HislipCable) as cable:
        session = ScpiSession(cable.path, "@py", "n6705", 0.6)
        await session.open()
        cable.mute = True
        began = time.monotonic()
        asking = asyncio.create_task(session.ask("*IDN?"))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        cable.mute = False
        assert "N6705C" in await session.ask("*IDN?")
        assert time.monotonic() - began > 0.5
        await session.close()
        await session.close()


async def test_what_an_abandoned_open_opens_is_closed() -> None:
    """A cancelled open runs on in its thread; its connections must not stay open."""
    async with plugged(SimulatedN6705(), HislipCable) as cable:
        session = ScpiSession(cable.path, "@py", "n6705", 5.0)
        opening = asyncio.create_task(session.open())
        while not cable.connections:
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        async with asyncio.timeout(10):
            while not cable.initialized or cable.connections:
                await asyncio.sleep(0.01)
        await session.close()


async def test_a_call_that_never_returns_ends_in_a_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = SimulatedN6705()
    async with plugged(fake, HislipCable) as cable:
        session = ScpiSession(cable.path, "@py", "n6705", 0.3)
        await session.open()
        stuck = session._port._device  # type: ignore[attr-defined]
        monkeypatch.setattr(stuck, "read_raw", lambda: time.sleep(2.0))
        with pytest.raises(DeadlineExceeded, match=r"longer than 0\.3 s"):
            await session.ask("*IDN?")
        with pytest.raises(DeadlineExceeded, match="abandoned call took longer"):
            await session.ask("*IDN?")
        await asyncio.sleep(1.5)
        assert "N6705C" in await session.ask("*IDN?")
        await session.close()


@pytest.mark.parametrize("name", ["hislip0,1", "inst0,1"])
async def test_nothing_at_the_address_is_a_missing_port(name: str) -> None:
    monitor = N6705(N6705Config(resource=f"TCPIP::127.0.0.1::{name}::INSTR", answer_s=0.5))
    with pytest.raises(TransportError, match="refused") as caught:
        await monitor.open()
    assert caught.value.code == "port-missing"
    assert "stations.toml" in caught.value.remedy


async def test_a_call_that_never_returns_does_not_keep_the_process_alive() -> None:
    """The interpreter joins the threads of executors; it must not join VISA's."""
    program = (
        "import asyncio, time\n"
        "from drivers.scpi.visa import VisaPort\n"
        "from labd.core.errors import DeadlineExceeded, Where\n"
        "async def main():\n"
        "    port = VisaPort('GPIB0::1::INSTR', '@sim', Where())\n"
        "    port._device = object()\n"
        "    port._thread = __import__('drivers.scpi.visa').scpi.visa._CallThread()\n"
        "    try:\n"
        "        await port._call_in_thread(0.0, 'hanging', lambda: time.sleep(3600))\n"
        "    except DeadlineExceeded:\n"
        "        print('deadline')\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(child.communicate(), 20.0)
    assert output == b"deadline\n"
    assert child.returncode == 0


# ---- pyvisa-sim --------------------------------------------------------------------------


@pytest.mark.parametrize("resource", [USB, GPIB, VXI11])
async def test_every_kind_of_interface_is_opened_and_marked_simulated(
    simulation: str, resource: str
) -> None:
    meter = meter_at(resource, simulation)
    identity = await meter.open()
    assert identity.name == "KEITHLEY INSTRUMENTS MODEL 2450"
    assert identity.serial == "04412345"
    assert identity.firmware == "1.7.12b"
    assert identity.simulated
    await meter.set_dut_supply(3000)
    await meter.set_dut_supply(None)
    assert await meter.self_check() == []
    await meter.close()
    await meter.close()


async def test_answers_are_complete_and_an_unanswered_query_ends_in_a_deadline(
    simulation: str,
) -> None:
    session = ScpiSession(GPIB, simulation, "smu", 0.3)
    await session.open()
    assert await session.ask_bytes("FETC?") == b"+1.0E-03,+2.0E-03,9.9E37"
    assert await session.ask("HEX?") == "#H1F"
    await session.write("SOUR:VOLT 1.800")
    assert await session.ask("SOUR:VOLT?") == "1.800"
    await session.write("OUTP ON")
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"'ABOR': the answer took longer than 0\.3 s"):
        await session.ask("ABOR")
    assert time.monotonic() - began < 1.0
    assert await session.ask("HEX?") == "#H1F"
    with pytest.raises(InstrumentError, match="a block of bytes instead of a line"):
        await session.ask("FETC?")
    await session.close()


@pytest.mark.parametrize(
    ("resource", "visa", "why"),
    [
        ("PXI0::3::INSTR", "@py", "PXI0::3::INSTR"),
        (GPIB, "@nonsense", "nonsense"),
    ],
)
async def test_an_incomplete_visa_installation_names_what_to_install(
    resource: str, visa: str, why: str
) -> None:
    with pytest.raises(TransportError) as caught:
        await meter_at(resource, visa).open()
    assert caught.value.code in ("visa-incomplete", "port-missing")
    assert why in str(caught.value)


async def test_use_of_a_closed_session_is_a_labd_bug(simulation: str) -> None:
    session = ScpiSession(GPIB, simulation, "smu", 0.3)
    with pytest.raises(LabdBug):
        await session.ask("HEX?")
    await session.open()
    await session.close()
    with pytest.raises(LabdBug):
        await session.write("OUTP ON")
