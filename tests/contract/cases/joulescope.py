from __future__ import annotations

from drivers.joulescope.config import JoulescopeConfig
from drivers.joulescope.driver import Joulescope
from labd.simulation.instruments.joulescope import SimulatedJoulescope
from labd.simulation.joulescope_library import UsbCable
from tests.contract.case import Case

FAKE = "labd.simulation.joulescope_library:SimulatedDriver"

CASES = [
    Case(
        "joulescope",
        SimulatedJoulescope,  # type: ignore[arg-type] - no bytes: it is reached through its library
        lambda serial, answer_s: Joulescope(
            JoulescopeConfig(serial=serial, answer_s=answer_s, library=FAKE)
        ),
        lambda driver: driver.self_check(),
        b"",
        cable=UsbCable,  # type: ignore[arg-type]
        babble=None,
        serial=False,
    )
]
