"""The ELFs: committed ones are what their sources give, and any model gets its own."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import build
from benchmark_table import UnknownBenchmarkError, benchmark_for
from tests.unit.firmware import tflite_writer as tflite
from tests.unit.firmware.host import FIRMWARE, ROOT, SHARED
from toolchain import ToolchainError, require_prebuilt_zig

PREBUILT = FIRMWARE / "prebuilt/nucleo-l4r5zi"
FLASH, RAM, RAM_END = 0x0800_0000, 0x2000_0000, 0x200A_0000
MODELS = SHARED / "mlperf-tiny/models"


def segments(elf: Path) -> dict[int, bytes]:
    """What is loaded where, by physical address."""
    data = elf.read_bytes()
    assert data[:6] == b"\x7fELF\x01\x01"
    (start,) = struct.unpack_from("<I", data, 28)
    size, count = struct.unpack_from("<HH", data, 42)
    found = {}
    for index in range(count):
        kind, offset, _, address, length = struct.unpack_from("<5I", data, start + index * size)
        if kind == 1 and length:
            found[address] = data[offset : offset + length]
    return found


def assert_boots(elf: Path) -> None:
    stack, reset = struct.unpack_from("<II", segments(elf)[FLASH])
    assert stack == RAM_END
    assert FLASH < reset < FLASH + 2**21
    assert reset % 2 == 1  # Thumb


def requires_prebuilt_zig() -> None:
    try:
        require_prebuilt_zig()
    except ToolchainError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("mode", ["performance", "energy"])
def test_prebuilt_elf_boots_and_contains_no_trace_of_its_builder(mode: str) -> None:
    elf = PREBUILT / f"digits01-{mode}.elf"
    assert_boots(elf)
    content = elf.read_bytes()
    assert f"m-timestamp-mode-{mode}".encode() in content
    assert b"digits01" in content
    for trace in (b".c\0", b"/home", b"/tmp", str(ROOT).encode(), b"clang", b"ziglang"):
        assert trace not in content


def test_rebuild_is_byte_identical(capsys: pytest.CaptureFixture[str]) -> None:
    requires_prebuilt_zig()
    assert build.main(["--check"]) == 0, capsys.readouterr().err


def test_check_notices_a_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requires_prebuilt_zig()
    changed = tmp_path / "prebuilt"
    shutil.copytree(FIRMWARE / "prebuilt", changed)
    elf = changed / "nucleo-l4r5zi/digits01-energy.elf"
    content = bytearray(elf.read_bytes())
    content[-1] ^= 1
    elf.write_bytes(content)
    monkeypatch.setattr(build, "PREBUILT", changed)
    assert build.main(["--check"]) == 1
    assert "digits01-energy.elf is not what its sources give" in capsys.readouterr().err
    elf.unlink()
    assert build.main(["--check"]) == 1
    assert "digits01-energy.elf is missing" in capsys.readouterr().err


def made_model(folder: Path) -> str:
    path = folder / "made.tflite"
    path.write_bytes(tflite.fully_connected(inputs=5, outputs=3).to_bytes())
    return str(path)


def has_gcc() -> bool:
    if shutil.which("arm-none-eabi-gcc") is None:
        return False
    command = ["arm-none-eabi-gcc", "-print-file-name=nano.specs"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(found.stdout.strip()).is_file()


@pytest.mark.parametrize("toolchain", ["zig", "gcc"])
@pytest.mark.parametrize(("clock", "source"), [("16", "int8"), ("120", "float32")])
def test_any_model_builds(tmp_path: Path, toolchain: str, clock: str, source: str) -> None:
    if toolchain == "gcc" and not has_gcc():
        pytest.skip("arm-none-eabi-gcc with newlib is not installed")
    arguments = ["--model", made_model(tmp_path), "--name", "mine", "--out", str(tmp_path / "out")]
    options = ["--toolchain", toolchain, "--clock-mhz", clock, "--input", source]
    assert build.main([*arguments, *options]) == 0
    folder = tmp_path / "out/nucleo-l4r5zi"
    assert {path.name for path in folder.iterdir()} == {
        "mine.c",
        "mine-performance.elf",
        "mine-energy.elf",
    }
    assert_boots(folder / "mine-performance.elf")
    assert_boots(folder / "mine-energy.elf")


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no official models in {MODELS} (set LABD_SHARED)")
@pytest.mark.parametrize("name", ["kws01", "ic01", "vww01", "ad01"])
def test_official_models_build(tmp_path: Path, name: str) -> None:
    model = str(MODELS / f"{name}_int8.tflite")
    assert build.main(["--model", model, "--name", name, "--out", str(tmp_path)]) == 0
    assert_boots(tmp_path / f"nucleo-l4r5zi/{name}-performance.elf")
    assert_boots(tmp_path / f"nucleo-l4r5zi/{name}-energy.elf")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert build.main(list(arguments)) == 1
    return capsys.readouterr().err


def test_refusals_are_clear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = made_model(tmp_path), str(tmp_path / "out")
    error = refusal(capsys, "--model", model, "--name", "mine", "--out", out)
    assert "'mine' is none of kws01, ic01, vww01, ad01, digits01" in error
    assert "--input" in error
    error = refusal(capsys, "--model", model, "--name", "kws01", "--out", out)
    assert "kws01 has inputs of 490 bytes, but this model takes 5" in error
    error = refusal(capsys, "--model", str(tmp_path / "no.tflite"), "--name", "kws01")
    assert "no.tflite: No such file" in error


@pytest.mark.parametrize(
    "arguments",
    [["--model", "a.tflite"], ["--name", "kws01"], ["--clock-mhz", "80"], ["--output", "error"]],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        build.main(arguments)
    assert stop.value.code == 2


def test_a_missing_compiler_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["--model", made_model(tmp_path), "--name", "mine", "--input", "int8"]
    error = refusal(capsys, *arguments, "--toolchain", "gcc", "--out", str(tmp_path / "out"))
    assert "arm-none-eabi-gcc is not installed" in error


def test_a_model_that_fills_the_memory_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = tflite.average_pool()
    huge.tensors[0].shape = (1, 700, 700, 2)
    huge.tensors[1].shape = (1, 350, 350, 2)
    path = tmp_path / "huge.tflite"
    path.write_bytes(huge.to_bytes())
    error = refusal(
        capsys, "--model", str(path), "--name", "huge", "--input", "int8", "--out", str(tmp_path)
    )
    assert "RAM" in error or "arena leaves no room" in error


def test_a_variant_is_named_after_its_benchmark() -> None:
    for name in ("kws01-mine", "kws01_pruned"):
        assert benchmark_for(name, 490, None, "tensor") == benchmark_for(
            "kws01", 490, None, "tensor"
        )
    for name in ("kws01x", "mykws01", "kws"):
        with pytest.raises(UnknownBenchmarkError, match="nor named after one"):
            benchmark_for(name, 490, None, "tensor")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("sww01", "a protocol of its own"), ("ic02", "does not run it yet"), ("ic02-a", "re-scores")],
)
def test_benchmarks_that_labd_does_not_run_are_named(name: str, reason: str) -> None:
    with pytest.raises(UnknownBenchmarkError, match=reason):
        benchmark_for(name, 3072, "uint8", "tensor")


def test_make_takes_paths_with_blanks_and_options(tmp_path: Path) -> None:
    folder = tmp_path / "my models"
    folder.mkdir()
    model = folder / "five inputs.tflite"
    model.write_bytes(Path(made_model(tmp_path)).read_bytes())
    venv = Path(sys.executable).parents[1]
    command = ["make", "firmware", f"VENV={venv}", "-o", f"{venv}/.installed"]
    asked = [*command, f"MODEL={model}", "NAME=mine", f"FLAGS=--input int8 --out '{folder}/out'"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "nucleo-l4r5zi" / "mine-performance.elf").is_file()


def test_protocol_sizes() -> None:
    """The buffers of the protocol's table; ad01 has twice its input."""
    elements = {"kws01": 490, "ic01": 3072, "vww01": 27_648, "ad01": 640, "digits01": 64}
    buffers = {
        name: benchmark_for(name, count, None, "tensor").buffer_bytes
        for name, count in elements.items()
    }
    assert buffers == {"kws01": 490, "ic01": 3072, "vww01": 27_648, "ad01": 5120, "digits01": 64}
    with pytest.raises(UnknownBenchmarkError):
        benchmark_for("ad01", 2560, None, "tensor")
