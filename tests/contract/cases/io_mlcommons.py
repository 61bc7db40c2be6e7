from __future__ import annotations

from drivers.io_manager.mlcommons_h573 import MlcommonsInterface, MlcommonsInterfaceConfig
from labd.simulation.instruments.interface_board import SimulatedInterfaceBoard
from labd.simulation.instruments.reference_dut import SimulatedDut
from tests.contract.case import ANSWER_S, Case

CASES = [
    Case(
        "mlcommons-interface",
        lambda: SimulatedInterfaceBoard.wired_to(SimulatedDut()),
        lambda port: MlcommonsInterface(MlcommonsInterfaceConfig(port=port, answer_s=ANSWER_S)),
        lambda driver: driver.intervals(),
        b"checkb",
    )
]
