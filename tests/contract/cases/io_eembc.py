from __future__ import annotations

from drivers.io_manager.eembc_uno import EembcIoManager, EembcIoManagerConfig
from labd.simulation.instruments.io_eembc import FakeIoManager
from labd.simulation.instruments.reference_dut import FakeDut
from labd.station.dut import Dut
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
