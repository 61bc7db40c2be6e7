from __future__ import annotations

from drivers.dut import Dut
from drivers.io_eembc import EembcIoManager, EembcIoManagerConfig
from labd.fakes.dut import FakeDut
from labd.fakes.io_eembc import FakeIoManager
from tests.contract.case import ANSWER_S, Case


async def identify(driver: EembcIoManager) -> object:
    return await Dut(driver.channel).identify(ANSWER_S * 5)


CASES = [
    Case(
        "eembc-io-manager",
        lambda: FakeIoManager(FakeDut(energy=True)),
        lambda port: EembcIoManager(
            EembcIoManagerConfig(port=port, answer_s=ANSWER_S, boot_s=2 * ANSWER_S)
        ),
        identify,
        b"dut nam",
    )
]
