"""The LPM01A's status beside its samples: buffer load, voltage, temperature, messages."""

from __future__ import annotations

from dataclasses import dataclass, field

from labd.core.model import Finding

LOAD_NOTED_PERCENT = 50
"""A transmit buffer this full means that the host is slow; at 100 % the stream ends."""
VOLTAGE_TOLERANCE = 0.01
"""UM2269 states no accuracy. Power is current times the set voltage: 1 % of it is 1 % of power."""
MAX_TEXTS = 20


@dataclass(slots=True)
class StatusNotes:
    """What the instrument reported beside its samples."""

    set_mv: int | None = None
    worst_load: int = 0
    voltage_mv: int | None = None
    temperature_c: tuple[int, int] | None = None
    texts: list[str] = field(default_factory=list[str])

    def note_load(self, percent: int) -> None:
        """Note how full the transmit buffer was at a time stamp."""
        self.worst_load = max(self.worst_load, percent)

    def note_voltage(self, millivolts: int) -> None:
        """Note a measured supply voltage; the one furthest from the set voltage is kept."""
        before = self.voltage_mv
        wanted = millivolts if self.set_mv is None else self.set_mv
        if before is None or abs(millivolts - wanted) > abs(before - wanted):
            self.voltage_mv = millivolts

    def note_temperature(self, celsius: int) -> None:
        """Note the board's temperature."""
        low, high = self.temperature_c or (celsius, celsius)
        self.temperature_c = min(low, celsius), max(high, celsius)

    def note_text(self, text: str) -> None:
        """Note a message, once."""
        if text not in self.texts and len(self.texts) < MAX_TEXTS:
            self.texts.append(text)

    def to_findings(self) -> list[Finding]:
        """Return all notes as findings; serious where the measured numbers are affected."""
        found = [
            Finding("instrument-text", f"it reports: {text}", serious=False) for text in self.texts
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
            text = f"it supplies {mv} mV, {set_mv} mV are set: power is wrong by this ratio"
            found.append(Finding("supply-voltage", text, "calibrate it, check the DUT's load"))
        return found
