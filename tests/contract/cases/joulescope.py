from __future__ import annotations

from drivers.joulescope import Joulescope, JoulescopeConfig
from labd.fakes.joulescope import UsbCable
from labd.fakes.joulescope_device import FakeJoulescope
from tests.contract.case import ANSWER_S, Case

FAKE = "labd.fakes.joulescope:Driver"

CASES = [
    Case(
        "joulescope",
        FakeJoulescope,  # type: ignore[arg-type] - no bytes: it is reached through its library
        lambda serial: Joulescope(JoulescopeConfig(serial=serial, answer_s=ANSWER_S, library=FAKE)),
        lambda driver: driver.self_check(),
        b"",
        cable=UsbCable,  # type: ignore[arg-type]
        babble=None,
        serial=False,
    )
]
