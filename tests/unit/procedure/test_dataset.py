"""Accuracy sets: read as published; every defect is named with its place."""

from pathlib import Path

import pytest

from labd.core.errors import JobError
from labd.core.suite import SUITE, find_benchmark
from labd.procedure.dataset import find_dataset

KWS = SUITE["kws01"]
AD = SUITE["ad01"]
REPO = Path(__file__).parents[3]


def make_set(folder: Path, labels: str, files: dict[str, int], name: str = "kws01") -> Path:
    home = folder / name
    home.mkdir(parents=True)
    (home / "y_labels.csv").write_text(labels)
    for file, size in files.items():
        (home / file).write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
    return folder


def test_a_set_is_read_in_order(tmp_path: Path) -> None:
    made = make_set(tmp_path, "b.bin,12,7\na.bin,12,2\n", {"a.bin": 490, "b.bin": 490})
    dataset = find_dataset([tmp_path / "absent", made], KWS)
    assert [(row.file, row.label) for row in dataset.rows] == [("b.bin", 7), ("a.bin", 2)]
    assert list(dataset.iter_inputs(dataset.rows[0])) == [(made / "kws01" / "b.bin").read_bytes()]


def test_windows_slide_by_the_stride(tmp_path: Path) -> None:
    size = 2560 + 3 * 512
    made = make_set(tmp_path, "n.bin,2,1,2560,512\n", {"n.bin": size}, "ad01")
    dataset = find_dataset([made], AD)
    whole = (made / "ad01" / "n.bin").read_bytes()
    windows = list(dataset.iter_inputs(dataset.rows[0]))
    assert windows == [whole[i * 512 : i * 512 + 2560] for i in range(4)]


def test_the_first_folder_is_used(tmp_path: Path) -> None:
    one = make_set(tmp_path / "1", "a.bin,12,1\n", {"a.bin": 490})
    two = make_set(tmp_path / "2", "a.bin,12,2\n", {"a.bin": 490})
    assert find_dataset([two, one], KWS).rows[0].label == 2


@pytest.mark.parametrize(
    ("labels", "files", "code", "text"),
    [
        ("a.bin,12,1\n", {}, "data-missing", "a.bin: No such file"),
        ("a.bin,12,1\n", {"a.bin": 489}, "data-size", "has 489 bytes, expected 490"),
        ("a.bin,12,1\n", {"a.bin": 980}, "data-size", "has 980 bytes, expected 490"),
        ("a.bin,12\n", {"a.bin": 490}, "labels-malformed", "csv:1: 2 fields"),
        ("a.bin,12,x\n", {"a.bin": 490}, "labels-malformed", "csv:1: 12,x are not whole"),
        ("a.bin,12,1\nb.bin,12,12\n", {"a.bin": 490}, "labels-malformed", "csv:2: class 12 of 12"),
        ("../a.bin,12,1\n", {}, "labels-malformed", "is not a plain file name"),
        ("a.bin,12,1,400,400\n", {"a.bin": 490}, "labels-malformed", "kws01 takes 490"),
        ("a.bin,12,1,490,0\n", {"a.bin": 490}, "labels-malformed", "stride 0"),
        ("\n\n", {}, "labels-empty", "lists no input file"),
    ],
)
def test_defects_are_named(
    tmp_path: Path, labels: str, files: dict[str, int], code: str, text: str
) -> None:
    make_set(tmp_path, labels, files)
    with pytest.raises(JobError) as caught:
        find_dataset([tmp_path], KWS)
    assert caught.value.code == code
    assert text in str(caught.value)


def test_labels_that_are_no_text_are_named(tmp_path: Path) -> None:
    make_set(tmp_path, "", {})
    (tmp_path / "kws01" / "y_labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(JobError, match="is not a CSV file"):
        find_dataset([tmp_path], KWS)


def test_an_absent_set_lists_the_searched_folders(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"no y_labels.csv in .*kws01.*stations.toml"):
        find_dataset([tmp_path], KWS)


def test_the_built_in_set_is_complete() -> None:
    dataset = find_dataset([REPO / "datasets"], SUITE["digits01"])
    assert len(dataset.rows) == 360
    assert {row.label for row in dataset.rows} == set(range(10))
    assert all(row.classes == 10 for row in dataset.rows)


def test_an_unknown_benchmark_lists_the_known_ones() -> None:
    with pytest.raises(JobError, match="use one of ad01, digits01, ic01, kws01, vww01"):
        find_benchmark("kws1")
