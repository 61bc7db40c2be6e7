"""Make the built-in benchmark digits01: its network and its accuracy set.

Usage:
    python firmware/tools/train_digits01.py            firmware/models/digits01.c, datasets/digits01
    python firmware/tools/train_digits01.py --check    check that both are what this script gives

The data are scikit-learn's handwritten digits: 1797 grey images of 8 x 8 pixels, part of the UCI
set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, CC BY 4.0). They come with
the scikit-learn package, so nothing is downloaded.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from digits_graph import quantise
from digits_network import CLASSES, Array, Random, forward, train
from emit_c import emit_c

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path("firmware/models/digits01.c")
DATASET = Path("datasets/digits01")
LABELS = "y_labels.csv"

GREY_LEVELS, WHITE = 16, 255
TEST_IMAGES_PER_CLASS = 36
SPLIT_SEED = 360
CLASS_NAMES = (
    "Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine",
)  # fmt: skip


@dataclass(frozen=True)
class Images:
    """Pixels 0..255, one row per image, and labels."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def grey(self) -> Array:
        """Return the input of the network: (count, 8, 8) in [0, 1]."""
        return self.pixels.reshape(-1, 8, 8) / float(WHITE)

    def choose(self, mask: NDArray[np.bool_]) -> "Images":
        """Return the images that the mask selects."""
        return Images(self.pixels[mask], self.labels[mask])


def load_images() -> Images:
    """Return all 1797 images, their 17 grey levels scaled to a byte."""
    digits = cast("Any", load_digits())
    levels = digits.data.astype(np.int64)
    pixels = (levels * WHITE + GREY_LEVELS // 2) // GREY_LEVELS
    return Images(pixels.astype(np.uint8), digits.target.astype(np.int64))


def test_mask(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the test split: equal numbers per class, drawn at random with a fixed seed."""
    random = Random(SPLIT_SEED)
    mask = np.zeros(len(labels), dtype=np.bool_)
    for digit in range(CLASSES):
        members = np.flatnonzero(labels == digit)
        mask[members[random.permutation(len(members))[:TEST_IMAGES_PER_CLASS]]] = True
    return mask


def model_text(training: Images) -> str:
    """Train, quantise, and return the C text."""
    weights = train(training.grey(), training.labels)
    graph = quantise(weights, forward(weights, training.grey()))
    return emit_c(graph, "train_digits01.py")


def dataset_files(test: Images) -> dict[str, bytes]:
    """Return the files of the accuracy set, in the official format, by name."""
    files: dict[str, bytes] = {}
    rows: list[str] = []
    for index, (pixels, label) in enumerate(zip(test.pixels, test.labels, strict=True)):
        name = f"tst_{index:06}_{CLASS_NAMES[label]}_{label}.bin"
        files[name] = pixels.tobytes()
        rows.append(f"{name},{CLASSES},{label}\n")
    return {LABELS: "".join(rows).encode(), **files}


def make() -> dict[Path, bytes]:
    """Return every generated file, by its path in the repository."""
    images = load_images()
    mask = test_mask(images.labels)
    files = dataset_files(images.choose(mask))
    return {
        MODEL: model_text(images.choose(~mask)).encode(),
        **{DATASET / name: content for name, content in files.items()},
    }


def differences(made: Mapping[Path, bytes], root: Path) -> list[str]:
    """List the files of the repository that differ from the generated ones."""
    found = [
        f"{path} is {'different' if (root / path).exists() else 'missing'}"
        for path, content in made.items()
        if not (root / path).exists() or (root / path).read_bytes() != content
    ]
    present = {path.relative_to(root) for path in (root / DATASET).iterdir()}
    return [*found, *(f"{path} should not be there" for path in sorted(present - made.keys()))]


def write(made: Mapping[Path, bytes], root: Path) -> None:
    """Replace the generated files, and remove all others from the data set's folder."""
    (root / DATASET).mkdir(parents=True, exist_ok=True)
    for stale in (root / DATASET).iterdir():
        stale.unlink()
    for path, content in made.items():
        (root / path).write_bytes(content)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare, change nothing")
    options = parser.parse_args(arguments)
    made = make()
    if not options.check:
        write(made, ROOT)
        return 0
    found = differences(made, ROOT)
    for difference in found:
        print(f"train_digits01: {difference}", file=sys.stderr)
    if not found:
        print("digits01 is what this script gives")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
