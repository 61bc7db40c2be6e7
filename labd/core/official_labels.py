"""Classes of the official input files, and times of the wake words."""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any

_KWS = re.compile(r"tst_\d+_[A-Za-z]+_(\d{1,2})")
_CIFAR_NUMBER = re.compile(r"_s_\d{6}$")
_AD = re.compile(r"(normal|anomaly)_")


def label_of(benchmark: str, file: str) -> int | None:
    """Return the class of an official input file by its name; ``None`` if unknown."""
    stem = input_name(benchmark, file)
    if benchmark == "kws01":
        found = _KWS.fullmatch(stem)
        return int(found[1]) if found else None
    if benchmark == "ad01":
        kind = _AD.match(stem)
        return int(kind[1] == "anomaly") if kind else None
    if benchmark == "ic01":
        stem = _CIFAR_NUMBER.sub("", stem)
    return _label_tables().get(benchmark, {}).get(stem)


def input_name(benchmark: str, file: str) -> str:
    """Return the name that identifies an input file, without folder, ending and padding."""
    stem = re.split(r"[\\/]", file.strip())[-1].removesuffix(".bin")
    if benchmark == "vww01":
        return stem.removeprefix("COCO_val2014_").lstrip("0")
    return stem


def wakewords_s() -> tuple[tuple[float, float], ...]:
    """Start and end of the wake words in ``long_wav.wav``, seconds."""
    return tuple((begin, end) for begin, end in _labels_toml()["sww01"]["words_s"])


@lru_cache(maxsize=1)
def _labels_toml() -> dict[str, Any]:
    return tomllib.loads(
        files(__package__ or "").joinpath("official_labels.toml").read_text("utf-8")
    )


@lru_cache(maxsize=1)
def _label_tables() -> dict[str, dict[str, int]]:
    return {
        benchmark: {
            name: int(label)
            for label, names in _labels_toml()[benchmark].items()
            for name in names.split()
        }
        for benchmark in ("ic01", "vww01")
    }
