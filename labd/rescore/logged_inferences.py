"""Compare the outputs of an accuracy run with its log of every inference."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from labd.rescore.accuracy_scores import LoggedAnswer
from labd.rescore.session_score import Recomputed
from labd.store.compressed_log import read_compressed_log

FIRST_OUTPUT = 6
"""Columns before the outputs: file, window, two host times, two laps."""

ROUNDING = 1e-9
"""Relative error of a mean that was added in another order."""


def compare_with_inferences(log: Path, answers: Sequence[LoggedAnswer], result: Recomputed) -> None:
    """Report outputs that are not the means of a file's logged inferences.

    Runs of earlier versions have no such log.
    """
    if not log.exists():
        return
    try:
        logged = _read_outputs(log)
    except (OSError, ValueError, IndexError) as error:
        result.add_finding("file-damaged", f"{log.name}: {error}")
        return
    altered = [each.file for each in answers if not _is_mean(each.outputs, logged[each.file])]
    if altered:
        text = (
            f"{len(altered)} of {len(answers)} outputs are not the means of the inferences in "
            f"{log.name}, the first: {altered[0]}"
        )
        result.add_finding("outputs-altered", text)


def _read_outputs(log: Path) -> defaultdict[str, list[tuple[float, ...]]]:
    """Return the outputs of each file's inferences.

    Raises:
        OSError: the log cannot be read.
        ValueError: it is no log of inferences.
        IndexError: a row is cut off.
    """
    found: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)
    for row in csv.reader(read_compressed_log(log).splitlines()):
        found[row[0]].append(tuple(float(value) for value in row[FIRST_OUTPUT:]))
    return found


def _is_mean(outputs: Sequence[float], inferences: Sequence[tuple[float, ...]]) -> bool:
    if not inferences or any(len(each) != len(outputs) for each in inferences):
        return False
    means = (sum(column) / len(column) for column in zip(*inferences, strict=True))
    return all(
        math.isclose(value, mean, rel_tol=ROUNDING, abs_tol=ROUNDING)
        for value, mean in zip(outputs, means, strict=True)
    )
