"""Compilers of the firmware: zig (from PyPI, reproducible to the byte), Debian's arm-none-eabi-gcc.

Sources are named relative to the firmware folder and compiled there, without debug information
and stripped: an ELF contains no path of the machine that built it.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FIRMWARE = Path(__file__).resolve().parent.parent
BOARD = "boards/nucleo_l4r5zi"
PREBUILT_ZIG = "0.17.1"
"""The ziglang release whose output is committed under firmware/prebuilt."""

COMMON_FLAGS = (
    "-std=c11", "-O2", "-g0", "-Wall", "-Wextra", "-Werror",
    "-ffunction-sections", "-fdata-sections",
    "-fno-unwind-tables", "-fno-asynchronous-unwind-tables",
    "-Iharness", "-Inn", "-Idut", f"-I{BOARD}",
    "-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,-s", f"-Wl,-T,{BOARD}/linker.ld",
)  # fmt: skip

ZIG = (
    sys.executable, "-m", "ziglang", "cc",
    "-target", "thumb-freestanding-eabihf",
    "-mcpu=cortex_m4+vfp4d16sp",  # cortex_m4 alone has no FPU
    "-Wl,-e,Reset_Handler",  # or the entry is 0
    "-Wl,-z,max-page-size=4",
)  # fmt: skip

GCC = (
    "arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard",
    "-nostartfiles", "--specs=nano.specs",
)  # fmt: skip

COMPILERS = {"zig": ZIG, "gcc": GCC}


class ToolchainError(Exception):
    """The compiler is missing or failed; the text has its output."""


def compile_elf(
    toolchain: str,
    firmware: Path,
    sources: Sequence[str | Path],
    defines: Mapping[str, int],
    elf: Path,
) -> None:
    """Compile and link for the NUCLEO-L4R5ZI. Raises ToolchainError."""
    command = [
        *COMPILERS[toolchain],
        *COMMON_FLAGS,
        *(f"-D{name}={value}" for name, value in sorted(defines.items())),
        *map(str, sources),
        "-o",
        str(elf.resolve()),
    ]
    elf.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, cwd=firmware, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ToolchainError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise ToolchainError(f"{elf.name}: {toolchain} failed\n{done.stdout}{done.stderr}")
    elf.chmod(0o644)  # it does not run on the machine that built it


def require_prebuilt_zig() -> None:
    """Check the release of ziglang: another may give other bytes. Raises ToolchainError."""
    try:
        installed = version("ziglang")
    except PackageNotFoundError:
        installed = "none"
    if installed != PREBUILT_ZIG:
        raise ToolchainError(
            f"the prebuilt ELFs come from ziglang {PREBUILT_ZIG}, but {installed} is installed; "
            f"install it with: pip install ziglang=={PREBUILT_ZIG}"
        )
