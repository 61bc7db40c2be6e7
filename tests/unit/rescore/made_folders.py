"""Session folders made up for the tests: the shapes of the public rounds, invented numbers."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KWS_FILES = [f"tst_{n:06d}_Word_{n % 12}.bin" for n in range(1000)]

STOP = "00998.000 session: m-session-stop-id[1]"


def rising(*lengths: int) -> list[tuple[int, int]]:
    """Laps of windows that follow each other; one length stands for five windows."""
    spans = lengths if len(lengths) > 1 else lengths * 5
    return [
        (1_000_000 + 20_000_000 * n, 1_000_000 + 20_000_000 * n + s) for n, s in enumerate(spans)
    ]


def write_performance(
    folder: Path,
    *,
    laps: Sequence[tuple[int, int]] = rising(12_000_000),
    inferences: int = 120,
    prefix: str = "",
) -> Path:
    """A session of the EEMBC runner: log, script and the result text it would print."""
    folder.mkdir(parents=True, exist_ok=True)
    log = [
        "00001.000 session: m-session-start-id[1]",
        "00001.000 parser: m-bmark-run-name[ML Performance 1.0.1]-code[ulp-mlperf]",
        "00001.000 parser: m-bm-cfg-name[ulp-mlperf]-key[runMode]-val[bmark]",
        "00001.000 dut: m-model-[kws01]",
        "00001.000 dut: m-lap-us-500",
    ]
    text: list[str] = []
    rates: list[float] = []
    for index, (start, stop) in enumerate(laps):
        runtime = ((stop - start) % 2**32) / 1e6
        begin = 10 + 100 * index
        log += [
            f'{begin:05d}.000 parser: Command "bload dut "C:\\sets\\kws01\\{KWS_FILES[index]}""',
            f'{begin:05d}.100 parser: Command "dut infer {inferences} 1"',
            f"{begin:05d}.200 dut: m-infer-start-{inferences}",
            f"{begin:05d}.200 dut: m-lap-us-{start}",
            f"{begin + runtime:09.3f} dut: m-lap-us-{stop}",
            f"{begin + runtime:09.3f} dut: m-infer-done",
            f"{begin + runtime:09.3f} dut: m-results-[1.000,0.000]",
        ]
        rates.append(inferences / runtime)
        text += performance_block(2 * index + 2, inferences, runtime)
    median = sorted(rates)[len(rates) // 2]
    text.append(f"00999.000 ulp-mlperf: Median throughput is {median:.3f} inf./sec.")
    write(folder, f"{prefix}log.txt", [*log, STOP])
    write(folder, f"{prefix}results.txt", text)
    write(folder, f"{prefix}script.async", [f"cmd: 'dut infer {inferences} 1'"] * len(laps))
    return folder


def performance_block(number: int, inferences: int, runtime: float) -> list[str]:
    """One window as the EEMBC runner prints it."""
    return [
        f"00999.000 ulp-mlperf: Performance results for window {number}:",
        f"00999.000 ulp-mlperf:   # Inferences : {inferences:>12}",
        f"00999.000 ulp-mlperf:   Runtime      : {runtime:>12.3f} sec.",
        f"00999.000 ulp-mlperf:   Throughput   : {inferences / runtime:>12.3f} inf./sec.",
        "00999.000 ulp-mlperf: Runtime requirements have been met.",
    ]


def write_energy(folder: Path, *, stamps: int = 11, sample_uj: float = 40.0) -> Path:
    """An energy session: five windows of 12 s, 10 inferences, every sample the same."""
    folder.mkdir(parents=True, exist_ok=True)
    times = [0.5] + [t for k in range(5) for t in (2.0 + 20 * k, 14.0 + 20 * k)]
    log = [
        "00001.000 session: m-session-start-id[1]",
        "00001.000 parser: m-bmark-run-name[ML Energy 1.0.1]-code[ulp-ml]",
        "00001.000 io: [dut]: m-model-[ic01]",
        f'{times[0]:09.3f} parser: Command "io dut timestamp"',
    ]
    text: list[str] = []
    for index, (start, stop) in enumerate(zip(times[1::2], times[2::2], strict=True)):
        log += [
            f'{start:09.3f} parser: Command "io dut infer 10 1"',
            f"{start:09.3f} io: [dut]: m-infer-start-10",
            f"{stop:09.3f} io: [dut]: m-infer-done",
            f"{stop:09.3f} io: [dut]: m-results-[0.500,0.500,]",
        ]
        if 2 * index + 2 < stamps:
            energy = sample_uj * 12_000
            text += [
                f"00200.000 ulp-ml: Energy data for window {2 * index + 2} at time 2.00",
                f"00200.000 ulp-ml:   Energy       : {energy:>12.3f} uJ",
                f"00200.000 ulp-ml:   Power        : {energy / 12:>12.3f} uW",
                f"00200.000 ulp-ml:   Energy/Inf.  : {energy / 10:>12.3f} uJ/inf.",
            ]
    text.append(f"00200.000 ulp-ml: Median energy cost is {sample_uj * 1200:.3f} uJ/inf.")
    write(folder, "log.txt", [*log, STOP])
    write(folder, "results.txt", text)
    write(folder, "script.async", ["cmd: 'io dut infer 10 1'"] * 5)
    write_trace(folder / "trace1-energy.bin", [sample_uj] * 96_000)
    (folder / "trace1-timestamps.json").write_text(json.dumps(times[:stamps]))
    return folder


def write_trace(path: Path, samples: Sequence[float], rate: float = 1000.0) -> None:
    """A power monitor's trace in the EEMBC container."""
    path.write_bytes(b"\xf1" + struct.pack(f"<{len(samples) + 1}f", rate, *samples))


def write_accuracy(folder: Path, *, wrong: int = 125, published: str = "87.5") -> Path:
    """All keyword files, the first ``wrong`` of them answered with the next class."""
    folder.mkdir(parents=True, exist_ok=True)
    log = ["00001.000 session: m-session-start-id[1]", *config("runMode", "multi")]
    for index, file in enumerate(KWS_FILES):
        predicted = (index + (index < wrong)) % 12
        outputs = ",".join("0.990" if c == predicted else "0.001" for c in range(12))
        log += [
            f'00002.000 parser: Command "bload dut "/sets/kws01/{file}""',
            '00002.000 parser: Command "dut infer 1 0"',
            "00002.000 dut: m-infer-start-1",
            "00002.000 dut: m-infer-done",
            f"00002.000 dut: m-results-[{outputs}]",
        ]
    write(folder, "log.txt", [*log, STOP])
    write(folder, "results.txt", [f"00003.000 ulp-mlperf: Top-1: {published}%"])
    write(folder, "script.async", ["cmd: 'dut infer 1 0'"] * len(KWS_FILES))
    return folder


def config(key: str, value: str) -> list[str]:
    """One line of the runner's configuration."""
    return [f"00001.000 parser: m-bm-cfg-name[ulp-mlperf]-key[{key}]-val[{value}]"]


def trial(**parts: Any) -> dict[str, Any]:
    """One element of results.json."""
    infer = {"iterations": 250, "warmups": 1, **parts.pop("infer", {})}
    return {"file": "tst_000000_Stop_7.bin", "class": "7", "infer": infer, "mode": "e", **parts}


def write_mlcommons(
    folder: Path, trials: Any, results: Sequence[str], model: str = "kws01"
) -> Path:
    """A session of the MLCommons runner."""
    folder.mkdir(parents=True, exist_ok=True)
    log = ["Logging initialized. Writing output to log.txt", f"Device model retrieved: {model}"]
    write(folder, "log.txt", [*log, *results])
    write(folder, "results.txt", results)
    (folder / "results.json").write_text(json.dumps(trials))
    return folder


def write(folder: Path, name: str, lines: Sequence[str], end: str = "\r\n") -> None:
    """A text file."""
    folder.joinpath(name).write_text("".join(line + end for line in lines), newline="")
