"""Samples per second of the Otii's codec, beside a plain Python decoder of the same replies.

python benchmarks/otii.py
"""

import json
import time

import numpy as np

from drivers.otii.messages import MessageSplitter, parse_analog_data
from drivers.otii.stream import OtiiStream
from labd.core.model import Samples

RATE_HZ = 50_000
SECONDS = 40
BLOCK = 5000  # a tenth of a second, one poll
READ = 65_536


def replies() -> bytes:
    """Return the replies of 40 s: blocks of current and of voltage, alternating."""
    lines: list[bytes] = []
    for first in range(0, SECONDS * RATE_HZ, BLOCK):
        for channel in ("mc", "mv"):
            amps = np.round(0.01 + 0.001 * np.sin(np.arange(first, first + BLOCK)), 9)
            data = {"data_type": "analog", "timestamp": first / RATE_HZ, "interval": 1 / RATE_HZ}
            answer = {"type": "response", "cmd": channel, "data": data | {"values": amps.tolist()}}
            lines.append(json.dumps(answer).encode() + b"\r\n")
    return b"".join(lines)


def ours(data: bytes) -> int:
    """Return the samples that the driver's codec confirms."""
    splitter, stream = MessageSplitter(), OtiiStream(RATE_HZ, RATE_HZ, "i1", 0.001)
    items = stream.note_start(0, 0, high=True)
    for at in range(0, len(data), READ):
        for message in splitter.feed(data[at : at + READ]):
            if not isinstance(message, dict):
                raise TypeError(message)
            block = parse_analog_data(message["data"], BLOCK)
            if message["cmd"] == "mv":
                stream.add_voltage(block)
                items += stream.release_confirmed()
            else:
                stream.add_current(block)
                now_ns = round(stream.received_samples / RATE_HZ * 1e9)
                items += stream.check_length(now_ns, now_ns)
    last_s = SECONDS - 1 / RATE_HZ
    items += stream.finish(last_s, last_s, SECONDS * 1_000_000_000)
    return sum(len(item) for item in items if isinstance(item, Samples))


def plain(data: bytes) -> int:
    """Return the samples that a loop over replies finds, as in published clients."""
    powers: list[float] = []
    rest, amps = b"", []
    for at in range(0, len(data), READ):
        rest += data[at : at + READ]
        *lines, rest = rest.split(b"\r\n")
        for line in lines:
            message = json.loads(line)
            values = message["data"]["values"]
            if message["cmd"] == "mc":
                amps = [
                    (message["data"]["timestamp"] + k / RATE_HZ, a) for k, a in enumerate(values)
                ]
            else:
                powers.extend(a * v for (_, a), v in zip(amps, values, strict=True))
    return len(powers)


def main() -> None:
    data = replies()
    speeds: list[float] = []
    for name, decode in (("plain Python", plain), ("labd", ours)):
        begun = time.perf_counter()
        count = decode(data)
        speeds.append(count / (time.perf_counter() - begun))
        print(f"{name:12} {count:>9} samples, {speeds[-1]:>12,.0f} per second")
    print(f"ratio        {speeds[1] / speeds[0]:.2f}; an Ace sends {RATE_HZ:,} per second")


if __name__ == "__main__":
    main()
