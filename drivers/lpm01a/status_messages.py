"""What the LPM01A says about itself beside its samples: loads, voltages, temperatures, words."""

from __future__ import annotations

from dataclasses import dataclass, field

from labd.core.model import Finding

LOAD_NOTED_PERCENT = 50
"""A transmit buffer this full says that the host is too slow; at 100 % the stream breaks off."""
VOLTAGE_TOLERANCE = 0.01
"""UM2269 states no accuracy; a current is made a power with the set voltage, so 1 % is 1 %."""
MAX_TEXTS = 20


@dataclass(slots=True)
class Notes:
    """What the instrument said about itself beside its samples."""

    set_mv: int | None = None
    worst_load: int = 0
    voltage_mv: int | None = None
    temperature_c: tuple[int, int] | None = None
    texts: list[str] = field(default_factory=list[str])

    def load(self, percent: int) -> None:
        """How full its transmit buffer was at a stamp."""
        self.worst_load = max(self.worst_load, percent)

    def voltage(self, millivolts: int) -> None:
        """The supply voltage it measured; the one furthest from the set voltage counts."""
        before = self.voltage_mv
        wanted = millivolts if self.set_mv is None else self.set_mv
        if before is None or abs(millivolts - wanted) > abs(before - wanted):
            self.voltage_mv = millivolts

    def temperature(self, celsius: int) -> None:
        """The board's temperature."""
        low, high = self.temperature_c or (celsius, celsius)
        self.temperature_c = min(low, celsius), max(high, celsius)

    def text(self, text: str) -> None:
        """Words of its own."""
        if text not in self.texts and len(self.texts) < MAX_TEXTS:
            self.texts.append(text)

    def findings(self) -> list[Finding]:
        """All of it for a person; serious where the numbers suffer."""
        found = [
            Finding("instrument-text", f"it says: {text}", serious=False) for text in self.texts
        ]
        if self.worst_load >= LOAD_NOTED_PERCENT:
            text = f"its transmit buffer was up to {self.worst_load} % full"
            found.append(
                Finding("transmit-buffer", text, "give the host less to do", serious=False)
            )
        if self.temperature_c is not None:
            low, high = self.temperature_c
            text = f"its temperature was {low} to {high} °C"
            found.append(Finding("temperature", text, serious=False))
        mv, set_mv = self.voltage_mv, self.set_mv
        if mv is not None and set_mv and abs(mv - set_mv) > VOLTAGE_TOLERANCE * set_mv:
            text = f"it supplies {mv} mV, {set_mv} mV are set: powers are off as much"
            found.append(Finding("supply-voltage", text, "calibrate it, check the DUT's load"))
        return found
