"""Input format, result format and UART speed of each benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

INPUT_ELEMENT_SIZES: Mapping[str, int] = MappingProxyType({"int8": 1, "uint8": 1, "float32": 4})
"""Bytes per element by input format; each has a dut/input_*.c."""

OUTPUTS = ("tensor", "error")
"""Result formats; each has a dut/output_*.c."""

ENERGY_BAUD = 9600
DEFAULT_BAUD = 115_200


@dataclass(frozen=True)
class Benchmark:
    """Formats and sizes of a benchmark, from the tables of the protocol."""

    input: str
    output: str
    input_bytes: int
    buffer_bytes: int
    performance_baud: int = DEFAULT_BAUD


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "kws01": Benchmark("int8", "tensor", 490, 490),
        "ic01": Benchmark("uint8", "tensor", 3072, 3072),
        "vww01": Benchmark("uint8", "tensor", 27_648, 27_648),
        "ad01": Benchmark("float32", "error", 2560, 5120, performance_baud=921_600),
        "digits01": Benchmark("uint8", "tensor", 64, 64),
    }
)


class UnknownBenchmarkError(Exception):
    """The input format of a benchmark is neither in the table nor given, or the model differs."""


def benchmark_for(name: str, elements: int, input_format: str | None, output: str) -> Benchmark:
    """Return the benchmark of a model with `elements` inputs. Raises UnknownBenchmarkError."""
    if name not in BENCHMARKS:
        if input_format is None:
            raise UnknownBenchmarkError(
                f"{name!r} is none of {', '.join(BENCHMARKS)}; "
                "give its input format with --input int8|uint8|float32"
            )
        size = elements * INPUT_ELEMENT_SIZES[input_format]
        return Benchmark(input_format, output, size, size)
    known = BENCHMARKS[name]
    size = elements * INPUT_ELEMENT_SIZES[known.input]
    if size != known.input_bytes:
        raise UnknownBenchmarkError(
            f"{name} has inputs of {known.input_bytes} bytes, but this model takes {size}"
        )
    return known
