"""docs/official-benchmarks.md, step by step, on copies of the publishers' repositories.

What downloads or trains (blocks of the language ``console``) is not run; its products are made up.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from tests.system.lab import LAB, REPO, Lab

PAGE = REPO / "docs" / "official-benchmarks.md"
SHARED = Path(os.environ.get("LABD_SHARED", REPO / ".." / "shared")).resolve() / "mlperf-tiny"
TRAINING = "benchmark/training"
MODELS = {
    "kws01": f"{TRAINING}/keyword_spotting/trained_models/kws_ref_model.tflite",
    "ic01": f"{TRAINING}/image_classification/trained_models/pretrainedResnet_quant.tflite",
    "vww01": f"{TRAINING}/visual_wake_words/trained_models/vww_96_int8.tflite",
    "ad01": f"{TRAINING}/anomaly_detection/trained_models/ad01_int8.tflite",
}
PATHS = (str(Path(sys.executable).parent), os.environ["PATH"])

IMAGES = {f"{name}-{build}.elf" for name in MODELS for build in ("performance", "energy")}

needs_official = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the official models and sets are not here (LABD_SHARED)"
)


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found


def make_repositories(folder: Path) -> None:
    """The publishers' repositories, as far as the page uses them."""
    for name, path in MODELS.items():
        target = folder / "tiny" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SHARED / "models" / f"{name}_int8.tflite", target)
        labels = folder / "tiny" / "benchmark/evaluation/datasets" / name
        labels.mkdir(parents=True)
        for source in (SHARED / "datasets" / name).glob("*.csv"):
            shutil.copyfile(source, labels / source.name)
    published = folder / "energyrunner" / "datasets" / "kws01"
    published.mkdir(parents=True)
    for source in (SHARED / "datasets" / "kws01").glob("*.bin"):
        shutil.copyfile(source, published / source.name)


def make_checkout(folder: Path) -> Path:
    """A checkout of labd, whose environment is the one of this test."""
    checkout = folder / "labd"
    checkout.mkdir()
    for name in ("Makefile", "firmware", "datasets", "requirements.txt", "pyproject.toml"):
        (checkout / name).symlink_to(REPO / name)
    venv = checkout / ".venv"
    venv.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (venv / name).symlink_to(Path(sys.prefix) / name)
    (venv / ".installed").touch()
    return checkout


def make_downloads(checkout: Path) -> None:
    """What the steps that are not run would have made, with made-up content."""
    pictures = checkout / "build" / "vw_coco2014_96" / "person"
    pictures.mkdir(parents=True)
    for number, file in enumerate(listed(checkout, "vww01")):
        picture = Image.new("RGB", (96, 96), (number % 256, number // 256, 7))
        picture.save(pictures / f"COCO_val2014_{Path(file).stem}.jpg")
    for name, size in (("ic01", 3072), ("ad01", 102_400)):
        for number, file in enumerate(listed(checkout, name)):
            path = checkout / "build" / "sets" / name / file
            path.write_bytes(number.to_bytes(2, "big") * (size // 2))


def listed(checkout: Path, name: str) -> list[str]:
    labels = checkout / "build" / "sets" / name / "y_labels.csv"
    return [row[0] for row in csv.reader(labels.read_text().splitlines())]


def run(command: str, checkout: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["sh", "-e", "-c", command],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PATH": os.pathsep.join(PATHS), **(environment or {})},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def write_stations(checkout: Path, port: int) -> None:
    """stations.toml as `labd init` writes it, with the page's lines in it."""
    run("labd init", checkout)
    text = (checkout / "stations.toml").read_text()
    for line in blocks("toml")[0].splitlines()[1:]:
        key = line.split(" = ")[0]
        text, count = re.subn(rf"^{key} = .*$", line, text, flags=re.MULTILINE)
        assert count == 1
    text = re.sub(r'^name = "lab"', f'name = "{LAB}"', text, flags=re.MULTILINE)
    text = re.sub(r"^port = 1883", f"port = {port}", text, flags=re.MULTILINE)
    (checkout / "stations.toml").write_text(text)


@needs_official
@pytest.mark.timeout(300)
async def test_every_step_of_the_page_can_be_taken(
    make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    folder = tmp_path / "from zero"
    folder.mkdir()
    make_repositories(folder)
    checkout = make_checkout(folder)
    lab = make_lab()
    write_stations(checkout, lab.port)
    before, *rest = blocks("sh")
    run(before, checkout)
    make_downloads(checkout)
    for python in blocks("python"):
        run(f"python - <<'END'\n{python}END", checkout)
    submits: list[str] = []
    for block in rest:
        lines = block.splitlines()
        submits += [line for line in lines if line.startswith("labctl submit")]
        run("\n".join(x for x in lines if not x.startswith(("labctl", "labd serve"))), checkout)
    names = {path.name for path in (checkout / "build" / "firmware").rglob("*.elf")}
    assert names == {
        f"{name}-{build}.elf" for name in MODELS for build in ("performance", "energy")
    }
    lab.config = checkout / "stations.toml"
    lab.start()
    await lab.ready()
    asks = {"LABD_BROKER": lab.url, "LABD_LAB": LAB}
    for line in submits:
        assert ": queued" in run(line.replace(" --watch", ""), checkout, asks)
    assert len(submits) == 5
