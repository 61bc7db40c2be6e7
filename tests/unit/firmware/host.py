"""The firmware's portable parts, built for the machine the tests run on."""

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_float, c_int8, c_int16, c_int32, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
FIRMWARE = ROOT / "firmware"
SHARED = Path(os.environ.get("LABD_SHARED", ROOT.parent / "shared"))
DSP_INSTRUCTIONS = Path(__file__).parent / "dsp"
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
SANITISERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ZIG = (sys.executable, "-m", "ziglang", "cc")


@functools.cache
def compiler() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A C compiler and its sanitiser flags; zig has no address sanitiser."""
    if shutil.which("cc") and _links_sanitisers():
        return ("cc",), SANITISERS
    return ZIG, ("-g", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")


def _links_sanitisers() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.c"
        source.write_text("int main(void) { return 0; }\n", encoding="ascii")
        command = ["cc", *SANITISERS, str(source), "-o", str(Path(folder) / "empty")]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def compile_c(
    sources: Sequence[Path], out: Path, flags: Sequence[str], defines: Mapping[str, object]
) -> Path:
    """Compile with every warning an error."""
    includes = [f"-I{FIRMWARE / folder}" for folder in ("harness", "nn", "dut")]
    settings = [f"-D{name}={value}" for name, value in defines.items()]
    command = [*compiler()[0], *WARNINGS, *flags, *includes, *settings]
    done = subprocess.run(
        [*command, *map(str, sources), "-o", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


def c_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((FIRMWARE / folder).glob("*.c"))]


def build_dut(
    folder: Path,
    *,
    energy: bool = False,
    model: Path = FIRMWARE / "models/digits01.c",
    glue: tuple[str, str] = ("uint8", "tensor"),
    buffer_size: int = 64,
    first_microsecond: int = 1000,
) -> Path:
    """A DUT as a process: its serial line is standard input and output, see boards/host."""
    dut = [FIRMWARE / f"dut/{part}.c" for part in ("main", f"input_{glue[0]}", f"output_{glue[1]}")]
    defines = {
        "HARNESS_ENERGY": int(energy),
        "DUT_BUFFER_SIZE": buffer_size,
        "BOARD_FIRST_MICROSECOND": f"{first_microsecond}U",
    }
    sources = [*c_files("harness", "nn", "boards/host"), *dut, model]
    return compile_c(sources, folder / "dut", compiler()[1], defines)


def talk(dut: Path, sent: bytes) -> bytes:
    """Return the whole output of a DUT for the bytes sent right after its start."""
    done = subprocess.run([str(dut)], input=sent, capture_output=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stderr == b"", done.stderr.decode(errors="replace")
    return done.stdout


def ask(dut: Path, *commands: str | bytes) -> list[bytes]:
    """The reply to each command without its closing m-ready; the prologue is dropped."""
    sent = b"".join((c.encode() if isinstance(c, str) else c) + b"%" for c in commands)
    replies = talk(dut, sent).split(b"m-ready\r\n")
    assert replies[-1] == b""
    assert len(replies) == len(commands) + 2
    return replies[1:-1]


def load_commands(data: bytes, bytes_a_line: int = 38) -> list[str]:
    lines = [data[k : k + bytes_a_line] for k in range(0, len(data), bytes_a_line)]
    return [f"db load {len(data)}", *(f"db {line.hex()}" for line in lines)]


class NnTensor(ctypes.Structure):
    _fields_ = (
        ("data", POINTER(c_int8)),
        ("size", c_size_t),
        ("scale", c_float),
        ("zero_point", c_int32),
    )


class NnModel(ctypes.Structure):
    _fields_ = (
        ("name", c_char_p),
        ("steps", c_void_p),
        ("step_count", c_size_t),
        ("arena", POINTER(c_int8)),
        ("column", POINTER(c_int16)),
        ("input", NnTensor),
        ("output", NnTensor),
    )


def build_kernels(folder: Path, *, dsp: bool, model: Path | None = None) -> ctypes.CDLL:
    """The kernels, and a model if given, as a library; `dsp`: the SMLAD variant."""
    flags = ["-O2", "-shared", "-fPIC"]
    if dsp:
        flags += ["-D__ARM_FEATURE_DSP=1", f"-I{DSP_INSTRUCTIONS}"]
    sources = [*c_files("nn"), *([model] if model else [])]
    name = f"{model.stem if model else 'kernels'}-{'dsp' if dsp else 'portable'}.so"
    return ctypes.CDLL(str(compile_c(sources, folder / name, flags, {})))


@dataclass
class HostModel:
    """A model that runs on the host."""

    library: ctypes.CDLL

    def __post_init__(self) -> None:
        self.model = NnModel.in_dll(self.library, "dut_model")

    def tensor(self, which: str) -> np.ndarray:
        tensor = getattr(self.model, which)
        return np.ctypeslib.as_array(tensor.data, (tensor.size,))

    def run(self, values: np.ndarray) -> np.ndarray:
        self.tensor("input")[:] = values.ravel()
        self.library.nn_invoke(ctypes.byref(self.model))
        return self.tensor("output").copy()
