"""Build the DUT firmware for the NUCLEO-L4R5ZI: a performance and an energy build per model.

Usage:
    python firmware/tools/build.py                     the prebuilt digits01 ELFs
    python firmware/tools/build.py --check             check that a rebuild gives the same bytes
    python firmware/tools/build.py --model kws01.tflite --name kws01
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmark_table import (
    BENCHMARKS,
    ENERGY_BAUD,
    INPUT_ELEMENT_SIZES,
    OUTPUTS,
    Benchmark,
    UnknownBenchmarkError,
    benchmark_for,
)
from graph import ConversionError
from tflite_to_c import convert
from toolchain import (
    BOARD,
    COMPILERS,
    FIRMWARE,
    ToolchainError,
    compile_elf,
    require_prebuilt_zig,
)

BOARD_FOLDER = "nucleo-l4r5zi"
PREBUILT = FIRMWARE / "prebuilt"
PREBUILT_CLOCK_MHZ = 16  # an emulated board then runs several times faster than real time
OFFICIAL_CLOCK_MHZ = 120
SOURCE_FOLDERS = ("harness", "nn", BOARD)


class StaleError(Exception):
    """A committed ELF differs from the build of its sources."""


def sources(benchmark: Benchmark, model: str | Path) -> list[str | Path]:
    """Return the C files of one ELF, relative to firmware/, in a fixed order."""
    found = [
        path.relative_to(FIRMWARE).as_posix()
        for folder in SOURCE_FOLDERS
        for path in sorted((FIRMWARE / folder).glob("*.c"))
    ]
    glue = ["dut/main.c", f"dut/input_{benchmark.input}.c", f"dut/output_{benchmark.output}.c"]
    return [*found, *glue, model]


def build(
    name: str,
    benchmark: Benchmark,
    model: str | Path,
    out: Path,
    *,
    toolchain: str,
    clock_mhz: int,
    firmware: Path = FIRMWARE,
) -> list[Path]:
    """Build `<out>/<board>/<name>-performance.elf` and `-energy.elf`. Raises ToolchainError."""
    elves: list[Path] = []
    for mode, energy, baud in (
        ("performance", 0, benchmark.performance_baud),
        ("energy", 1, ENERGY_BAUD),
    ):
        elf = out / BOARD_FOLDER / f"{name}-{mode}.elf"
        defines = {
            "HARNESS_ENERGY": energy,
            "BOARD_BAUD": baud,
            "BOARD_CLOCK_MHZ": clock_mhz,
            "DUT_BUFFER_SIZE": benchmark.buffer_bytes,
        }
        compile_elf(toolchain, firmware, sources(benchmark, model), defines, elf)
        elves.append(elf)
    return elves


def build_prebuilt(out: Path, firmware: Path = FIRMWARE) -> list[Path]:
    """Build the images that are committed in firmware/prebuilt. Raises ToolchainError."""
    require_prebuilt_zig()
    return build(
        "digits01",
        BENCHMARKS["digits01"],
        "models/digits01.c",
        out,
        toolchain="zig",
        clock_mhz=PREBUILT_CLOCK_MHZ,
        firmware=firmware,
    )


def check_prebuilt() -> None:
    """Rebuild a copy of the sources and compare. Raises StaleError, ToolchainError."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(FIRMWARE, copy, ignore=shutil.ignore_patterns("prebuilt", "__pycache__"))
        out = Path(folder) / "out"
        for rebuilt in build_prebuilt(out, copy):
            committed = PREBUILT / rebuilt.relative_to(out)
            if not committed.exists():
                raise StaleError(f"{committed} is missing")
            if committed.read_bytes() != rebuilt.read_bytes():
                raise StaleError(
                    f"{committed} is not what its sources give; "
                    "run `python firmware/tools/build.py` and commit the result"
                )


def build_model(options: argparse.Namespace) -> list[Path]:
    """Convert a `.tflite` and build it; the generated C file is written beside the ELFs."""
    graph, text = convert(options.model, options.name)
    benchmark = benchmark_for(options.name, graph.input.size, options.input, options.output)
    generated = options.out / BOARD_FOLDER / f"{options.name}.c"
    generated.parent.mkdir(parents=True, exist_ok=True)
    generated.write_text(text, encoding="ascii")
    return build(
        options.name,
        benchmark,
        generated.resolve(),
        options.out,
        toolchain=options.toolchain,
        clock_mhz=options.clock_mhz,
    )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare a rebuild, change nothing")
    parser.add_argument("--model", type=Path, help="int8 .tflite file to convert and build")
    parser.add_argument("--name", help=f"its benchmark: {', '.join(BENCHMARKS)}, or another name")
    parser.add_argument("--input", choices=INPUT_ELEMENT_SIZES, help="input format of another name")
    parser.add_argument(
        "--output",
        choices=OUTPUTS,
        default="tensor",
        help="results of another name: the output tensor, or the mean squared error against a "
        "float32 input",
    )
    parser.add_argument("--out", type=Path, default=Path("build/firmware"))
    parser.add_argument("--toolchain", choices=COMPILERS, default="zig")
    parser.add_argument("--clock-mhz", type=int, choices=(16, 120), default=OFFICIAL_CLOCK_MHZ)
    options = parser.parse_args(arguments)
    if (options.model is None) != (options.name is None):
        parser.error("--model and --name go together")
    if options.output == "error" and options.input != "float32":
        parser.error("--output error needs --input float32")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse(arguments)
    try:
        if options.check:
            check_prebuilt()
            print("the prebuilt ELFs are what their sources give")
            return 0
        elves = build_model(options) if options.model else build_prebuilt(PREBUILT)
    except (ConversionError, StaleError, ToolchainError, UnknownBenchmarkError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    for elf in elves:
        print(elf)
    return 0


if __name__ == "__main__":
    sys.exit(main())
