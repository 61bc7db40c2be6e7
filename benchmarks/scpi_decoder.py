"""Records per second of the N6705's data logger, beside plain Python decoders of the same bytes.

python benchmarks/scpi_decoder.py
"""

import struct
import time
from collections.abc import Callable

import numpy as np

from drivers.n6705.elog import parse_records
from drivers.scpi.codec import ScpiBlock, ScpiDecoder, parse_values
from drivers.scpi.record_clock import Moment, RecordClock
from drivers.scpi.record_stream import RecordStream
from labd.core.model import Samples

COUNT = 1_000_000
RATE_HZ = 9765.625  # its fastest period: 102.4 µs
POLL = 683  # records per poll
CHUNK = 1448  # bytes per TCP segment
PERIOD_NS = 102_400


def replies() -> bytes:
    """Return the instrument's bytes: blocks and empty error queues, alternating."""
    current_a = (0.001 + 1e-6 * (np.arange(COUNT) % 9000)).astype(">f4")
    parts: list[bytes] = []
    for start in range(0, COUNT, POLL):
        block = current_a[start : start + POLL].tobytes()
        size = str(len(block)).encode()
        parts.append(b"#%d" % len(size) + size + block + b'\n+0,"No error"\n')
    return b"".join(parts)


def chunks(data: bytes) -> list[bytes]:
    return [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]


def ours(data: bytes) -> int:
    """Return the samples that the driver confirms by the host clock."""
    decoder = ScpiDecoder()
    stream = RecordStream(
        RecordClock(RATE_HZ, 15.0), lambda index, rows: Samples(index, rows[:, 0] * 3.0, rows[:, 0])
    )
    stream.clock.note_start(Moment(0, 0))
    items = []
    for chunk in chunks(data):
        for reply in decoder.feed(chunk):
            if isinstance(reply, ScpiBlock):
                rows = parse_records(reply.data, 1)
                now = (stream.received_samples + len(rows)) * PERIOD_NS
                items += stream.add_records(rows, Moment(now, now), drained=True)
    items += stream.release_tail()
    return sum(len(item) for item in items if isinstance(item, Samples))


def plain(data: bytes) -> int:
    """Return the samples of a loop that unpacks one float after another."""
    values: list[float] = []
    buffer = b""
    for chunk in chunks(data):
        buffer += chunk
        while len(buffer) > len(b"#1"):
            if buffer[:1] == b"#":
                head = 2 + int(buffer[1:2])
                size = int(buffer[2:head]) if len(buffer) >= head else len(buffer)
                if len(buffer) < head + size + 1:
                    break
                for at in range(head, head + size, 4):
                    current_a = struct.unpack(">f", buffer[at : at + 4])[0]
                    values.append(current_a * 3.0)
                buffer = buffer[head + size + 1 :]
            elif b"\n" in buffer:
                buffer = buffer[buffer.index(b"\n") + 1 :]
            else:
                break
    return len(values)


def readings() -> bytes:
    """Return a meter's reply of a million readings, as text."""
    return b",".join(b"+%d.%08dE-03" % (k % 10, k) for k in range(COUNT))


def ours_text(data: bytes) -> int:
    return len(parse_values(data, "ascii", "big"))


def plain_text(data: bytes) -> int:
    return len([float(word) for word in data.decode().split(",")])


def compare(what: str, data: bytes, decoders: dict[str, Callable[[bytes], int]]) -> None:
    speed: dict[str, float] = {}
    for name, decode in decoders.items():
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            count = decode(data)
            best = min(best, time.perf_counter() - start)
        assert count == COUNT, (name, count)
        speed[name] = count / best
        print(f"{what}, {name:12}: {speed[name] / 1e6:6.2f} M samples/s")
    print(f"ratio: {speed['labd'] / speed['plain Python']:.1f}")


def main() -> None:
    compare("N6705 ELOG, float32", replies(), {"labd": ours, "plain Python": plain})
    compare("SCPI meter, ASCII  ", readings(), {"labd": ours_text, "plain Python": plain_text})


if __name__ == "__main__":
    main()
