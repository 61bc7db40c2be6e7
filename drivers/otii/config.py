"""Settings of an Otii device: its table in stations.toml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from drivers.base.interfaces import MonitorConfig

LEAST_MV = 500


class OtiiConfig(MonitorConfig):
    """A device of an Otii server."""

    host: str = Field("127.0.0.1", description="host of the Otii server", min_length=1)
    port: int = Field(1905, description="its TCP port", ge=1, le=65_535)
    device: str = Field("", description="name or id of the device, if the server has several")
    rate_hz: int | None = Field(
        None, description="samples of current per second: 4000 of an Arc, up to 50 000 of an Ace"
    )
    max_current_a: float = Field(0.5, gt=0, le=5, description="the supply cuts off above this")
    max_voltage_mv: int = Field(
        3600, ge=LEAST_MV, le=25_000, description="highest supply a job may ask for"
    )
    timestamp_line: Literal["i1", "i2"] = Field(
        "i1", description="input wired to the DUT's timestamp pin: i1 is GPI1"
    )
    io_voltage_mv: int = Field(
        3300, ge=1200, le=5000, description="level of the digital inputs: the DUT's I/O voltage"
    )
    user_env: str = Field("OTII_USERNAME", description="environment variable with the account")
    password_env: str = Field("OTII_PASSWORD", description="environment variable with its password")
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @property
    def supply_range_mv(self) -> tuple[int, int]:
        """What the station allows; the device may have a lower limit."""
        return LEAST_MV, self.max_voltage_mv
