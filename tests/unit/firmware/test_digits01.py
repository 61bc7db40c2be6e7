"""The built-in benchmark: it can be made again, and has the accuracy of its manifest."""

import csv
import hashlib
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import train_digits01
from digits_network import exact_product, snap
from fixed_point import INT8_MAX, INT8_MIN
from tests.unit.firmware.host import FIRMWARE, ROOT, HostModel, ask, build_kernels, load_commands

FOLDER = ROOT / "datasets/digits01"
MANIFEST = tomllib.loads((ROOT / "datasets/digits01.toml").read_text(encoding="utf-8"))
ROWS = list(csv.reader((FOLDER / "y_labels.csv").read_text(encoding="ascii").splitlines()))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([np.fromfile(FOLDER / name, np.uint8) for name, _, _ in ROWS])


def test_manifest_describes_the_files(images: np.ndarray) -> None:
    assert images.shape == (MANIFEST["files"], MANIFEST["bytes_per_input"])
    assert {int(classes) for _, classes, _ in ROWS} == {MANIFEST["classes"]}
    labels = (FOLDER / MANIFEST["labels"]).read_bytes()
    assert hashlib.sha256(labels).hexdigest() == MANIFEST["labels_sha256"]
    assert hashlib.sha256(images.tobytes()).hexdigest() == MANIFEST["inputs_sha256"]


def test_split_has_as_many_images_of_each_class() -> None:
    counts = np.bincount([int(label) for _, _, label in ROWS])
    assert counts.tolist() == [36] * 10
    assert all(name.endswith(f"_{label}.bin") for name, _, label in ROWS)


def test_no_test_image_is_trained_on() -> None:
    everything = train_digits01.load_images()
    mask = train_digits01.test_mask(everything.labels)
    training = everything.choose(~mask)
    assert len(training.labels) == 1797 - 360
    seen = {pixels.tobytes() for pixels in training.pixels}
    assert not any(pixels.tobytes() in seen for pixels in everything.choose(mask).pixels)


def test_training_again_gives_the_same_bytes() -> None:
    assert train_digits01.differences(train_digits01.make(), ROOT) == []


def test_check_reports_what_differs(tmp_path: Path) -> None:
    folder = train_digits01.DATASET
    made = {folder / "a.bin": b"1", folder / "b.bin": b"2"}
    (tmp_path / folder).mkdir(parents=True)
    for name, content in (("a.bin", b"0"), ("c.bin", b"3")):
        (tmp_path / folder / name).write_bytes(content)
    assert train_digits01.differences(made, tmp_path) == [
        f"{folder}/a.bin is different",
        f"{folder}/b.bin is missing",
        f"{folder}/c.bin should not be there",
    ]
    train_digits01.write(made, tmp_path)
    assert train_digits01.differences(made, tmp_path) == []


def test_products_that_would_round_are_refused() -> None:
    with pytest.raises(ArithmeticError, match="would round"):
        exact_product(np.full((1, 4), 4096.0), np.full((4, 1), 4096.0))
    order = np.random.default_rng(0).permutation(4096)
    left, right = np.random.default_rng(1).normal(size=(2, 4096))
    forward = exact_product(left[None], right[:, None])
    assert forward == exact_product(left[order][None], right[order][:, None])
    assert forward == sum(a * b for a, b in zip(snap(left), snap(right), strict=True))


@pytest.mark.parametrize("dsp", [False, True])
def test_accuracy_is_the_recorded_one(tmp_path: Path, images: np.ndarray, *, dsp: bool) -> None:
    library = build_kernels(tmp_path, dsp=dsp, model=FIRMWARE / "models/digits01.c")
    model = HostModel(library)
    right = 0
    for pixels, (_, _, label) in zip(images, ROWS, strict=True):
        output = model.run(pixels.astype(int) - 128)
        assert INT8_MIN <= output.min() <= output.max() <= INT8_MAX
        right += int(output.argmax()) == int(label)
    assert right == MANIFEST["model"]["top1_correct"]
    assert right >= 0.95 * len(ROWS)


def test_dut_classifies_what_the_host_sends(performance_dut: Path, images: np.ndarray) -> None:
    right = 0
    commands = [
        command
        for pixels in images[:60]
        for command in (*load_commands(pixels.tobytes()), "infer 1 0")
    ]
    replies = b"".join(ask(performance_dut, *commands))
    for found, (_, _, label) in zip(
        re.findall(rb"m-results-\[(.*)\]", replies), ROWS, strict=False
    ):
        right += int(np.argmax([float(value) for value in found.split(b",")])) == int(label)
    assert right >= 57
