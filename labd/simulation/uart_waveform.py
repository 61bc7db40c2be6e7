"""UART characters on a wire: how long one takes, and what a receiver at another speed reads."""

from __future__ import annotations

from labd.simulation.virtual_time import PS_PER_S

FRAME_BITS = 10  # start, 8 data, stop
_SURE_FRACTION = 50  # within a fiftieth no sample point moves into another bit


def character_duration_ps(baud: int) -> int:
    """Return how long one character occupies a line at ``baud``, ps."""
    return FRAME_BITS * PS_PER_S // baud


def character_as_received(byte: int, sent_baud: int, read_baud: int) -> bytes:
    """Return what a receiver at ``read_baud`` reads of one character sent at ``sent_baud``.

    The waveform (start bit low, data from bit 0 up, stop bit high, then idle) is sampled in
    the middle of the receiver's bits, as a UART does: equal within about 4 % it is the same
    byte, slower receivers see one wrong byte, faster ones may see several. A speed of 0 on
    either side (not set up) gets nothing across.
    """
    if not sent_baud or not read_baud:
        return b""
    if abs(sent_baud - read_baud) * _SURE_FRACTION < read_baud:
        return bytes((byte,))
    bits = [0, *(byte >> n & 1 for n in range(8)), 1]

    def waveform_level(time: float) -> int:  # time in seconds since the start bit's edge
        index = int(time * sent_baud)
        return bits[index] if index < FRAME_BITS else 1

    out = bytearray()
    start = 0.0
    while start * sent_baud < FRAME_BITS:
        samples = [waveform_level(start + (n + 0.5) / read_baud) for n in range(FRAME_BITS)]
        if samples[0] == 0:
            out.append(sum(bit << n for n, bit in enumerate(samples[1:9])))
        start = _next_falling_edge(bits, start + (FRAME_BITS - 0.5) / read_baud, sent_baud)
    return bytes(out)


def _next_falling_edge(bits: list[int], after: float, baud: int) -> float:
    """Time of the first falling edge at or after ``after``, or the end of the frame."""
    for index in range(1, FRAME_BITS):
        if index / baud >= after and bits[index - 1] == 1 and bits[index] == 0:
            return index / baud
    return FRAME_BITS / baud
