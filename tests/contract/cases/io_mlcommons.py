from __future__ import annotations

from drivers.io_manager.mlcommons_h573 import MlcommonsInterface, MlcommonsInterfaceConfig
from labd.simulation.instruments.interface_board import SimulatedInterfaceBoard
from labd.simulation.instruments.reference_dut import SimulatedDut
from tests.contract.case import Case

CASES = [
    Case(
        "mlcommons-interface",
        lambda: SimulatedInterfaceBoard.connected_to_dut(SimulatedDut()),
        lambda port, answer_s: MlcommonsInterface(
            MlcommonsInterfaceConfig(port=port, answer_s=answer_s)
        ),
        lambda driver: driver.read_intervals(),
        b"checkb",
    )
]
