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


NOT_RUN: Mapping[str, str] = MappingProxyType(
    {
        "sww01": "streaming wake word has a protocol of its own, which this harness does not have",
        "ic02": "labd re-scores the larger image classification, but does not run it yet",
    }
)
"""Official benchmarks that images cannot be built for, and why."""


class UnknownBenchmarkError(Exception):
    """The input format of a benchmark is neither in the table nor given, or the model differs."""


def benchmark_for(name: str, elements: int, input_format: str | None, output: str) -> Benchmark:
    """Return the benchmark of a model with `elements` inputs. Raises UnknownBenchmarkError.

    A variant is named after its benchmark: `kws01-mine` and `kws01_pruned` are kws01.
    """
    for unsupported, reason in NOT_RUN.items():
        if is_variant_of(name, unsupported):
            raise UnknownBenchmarkError(f"{name}: {reason}")
    base = next((known for known in BENCHMARKS if is_variant_of(name, known)), None)
    if base is None:
        if input_format is None:
            raise UnknownBenchmarkError(
                f"{name!r} is none of {', '.join(BENCHMARKS)}, nor named after one as kws01-mine "
                "is; give its input format with --input int8|uint8|float32 "
                "(make firmware … FLAGS='--input uint8')"
            )
        size = elements * INPUT_ELEMENT_SIZES[input_format]
        return Benchmark(input_format, output, size, size)
    known = BENCHMARKS[base]
    size = elements * INPUT_ELEMENT_SIZES[known.input]
    if size != known.input_bytes:
        raise UnknownBenchmarkError(
            f"{base} has inputs of {known.input_bytes} bytes, but this model takes {size}"
        )
    return known


def is_variant_of(name: str, benchmark: str) -> bool:
    """Return whether a name is a benchmark's, or begins with it and then - or _."""
    return name == benchmark or name.startswith((f"{benchmark}-", f"{benchmark}_"))
