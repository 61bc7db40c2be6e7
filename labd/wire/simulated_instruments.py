"""The simulated instruments that ``labd fake`` serves, by driver name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServedInstrument:
    """One simulated instrument.

    Args:
        serve: ``module:function``; the function returns the cable of a new instrument that
            follows the wall clock.
        description: for the list of instruments.
        table: for stations.toml, with ``%s`` for its address.
        has_dut: it includes a DUT, whose firmware build can be chosen.
    """

    serve: str
    description: str
    table: str
    has_dut: bool = False


SCPI_METER_TABLE = """[station.power]
driver = "scpi-meter"
resource = "%s"
expect = "acme"
rate_hz = 1000
supply_on = ["SOUR:VOLT {volts:.3f}", "OUTP ON"]
supply_off = ["OUTP OFF"]
start = ["INIT"]
read = "FETC?"
stop = ["ABOR"]"""

INSTRUMENTS = {
    "serial-dut": ServedInstrument(
        "labd.simulation.instruments.reference_dut:serve_reference_dut_on_pty",
        "a kws01 board on its own serial port",
        'dut = { driver = "serial-dut", port = "%s" }',
        has_dut=True,
    ),
    "mlcommons-interface": ServedInstrument(
        "labd.simulation.instruments.interface_board:serve_interface_board_on_pty",
        "STM32H573I-DK, a kws01 DUT behind",
        'io = { driver = "mlcommons-interface", port = "%s" }',
        has_dut=True,
    ),
    "eembc-io-manager": ServedInstrument(
        "labd.simulation.instruments.eembc_uno:serve_eembc_uno_on_pty",
        "Arduino UNO, a kws01 DUT behind",
        'io = { driver = "eembc-io-manager", port = "%s", timestamp_wire = true }',
        has_dut=True,
    ),
    "lpm01a": ServedInstrument(
        "labd.simulation.instruments.lpm01a.device:serve_lpm01a_on_pty",
        "X-NUCLEO-LPM01A, ASCII and binary",
        'power = { driver = "lpm01a", port = "%s" }',
    ),
    "ppk2": ServedInstrument(
        "labd.simulation.instruments.ppk2.device:serve_ppk2_on_pty",
        "Nordic PPK2, 100 kS/s",
        'power = { driver = "ppk2", port = "%s" }',
    ),
    "n6705": ServedInstrument(
        "labd.simulation.instruments.n6705:serve_n6705_on_tcp",
        "Keysight N6705C, SCPI over a socket",
        'power = { driver = "n6705", resource = "%s" }',
    ),
    "otii": ServedInstrument(
        "labd.simulation.instruments.otii:serve_otii_on_tcp",
        "Qoitech Otii server, JSON over a socket",
        'power = { driver = "otii", port = %s }',
    ),
    "scpi-meter": ServedInstrument(
        "labd.simulation.instruments.scpi_meter:serve_scpi_meter_on_tcp",
        "a source-measure unit, SCPI over a socket",
        SCPI_METER_TABLE,
    ),
}
"""By driver name."""

LIVE_JOULESCOPE = "labd.simulation.joulescope_library:LiveDriver"

JOULESCOPE_NOTE = f"""a Joulescope has no public byte protocol: its simulation replaces the vendor's
library inside labd, and is not served here. In stations.toml:
  power = {{ driver = "joulescope", library = "{LIVE_JOULESCOPE}" }}"""
