from __future__ import annotations

from drivers.scpi_meter.config import ScpiMeterConfig
from drivers.scpi_meter.driver import ScpiMeter
from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments.scpi_meter import SimulatedScpiMeter
from tests.contract.case import Case


def driver(port: str, answer_s: float) -> ScpiMeter:
    return ScpiMeter(
        ScpiMeterConfig(
            resource=port,
            answer_s=answer_s,
            expect="SMU-1",
            rate_hz=1000,
            setup=("*RST", "SENS:FUNC 'CURR'"),
            supply_on=("SOUR:VOLT {volts}", "OUTP ON"),
            supply_off=("OUTP OFF",),
            start=("INIT",),
            read="FETC?",
            stop=("ABOR",),
        )
    )


CASES = [
    Case(
        "scpi-meter",
        SimulatedScpiMeter,
        driver,
        lambda meter: meter.set_dut_supply(3000),
        b"SOUR:VOLT 30",
        cable=TcpCable,
        babble=None,
        serial=False,
    )
]
