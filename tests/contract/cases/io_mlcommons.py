from __future__ import annotations

from drivers.io_mlcommons import MlcommonsInterface, MlcommonsInterfaceConfig
from labd.fakes.dut import FakeDut
from labd.fakes.interface_board import FakeInterfaceBoard
from tests.contract.case import ANSWER_S, Case

CASES = [
    Case(
        "mlcommons-interface",
        lambda: FakeInterfaceBoard(FakeDut()),
        lambda port: MlcommonsInterface(MlcommonsInterfaceConfig(port=port, answer_s=ANSWER_S)),
        lambda driver: driver.intervals(),
        b"checkb",
    )
]
