"""Accuracy sets: read as published; every defect is named with its place."""

import hashlib
import os
from pathlib import Path

import pytest

from labd.core.errors import JobError
from labd.core.model import DataStanding, Mode
from labd.core.suite import SUITE, find_benchmark
from labd.procedure.dataset import SentInputs, find_dataset

KWS = SUITE["kws01"]
AD = SUITE["ad01"]
ACCURACY = (Mode.ACCURACY,)
PERFORMANCE = (Mode.PERFORMANCE,)
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
    dataset = find_dataset([tmp_path / "absent", made], KWS, ACCURACY)
    assert [(row.file, row.label) for row in dataset.rows] == [("b.bin", 7), ("a.bin", 2)]
    assert list(dataset.iter_inputs(dataset.rows[0])) == [(made / "kws01" / "b.bin").read_bytes()]


def test_windows_slide_by_the_stride(tmp_path: Path) -> None:
    size = 2560 + 3 * 512
    made = make_set(tmp_path, "n.bin,2,1,2560,512\n", {"n.bin": size}, "ad01")
    dataset = find_dataset([made], AD, ACCURACY)
    whole = (made / "ad01" / "n.bin").read_bytes()
    windows = list(dataset.iter_inputs(dataset.rows[0]))
    assert windows == [whole[i * 512 : i * 512 + 2560] for i in range(4)]


def test_the_first_folder_is_used(tmp_path: Path) -> None:
    one = make_set(tmp_path / "1", "a.bin,12,1\n", {"a.bin": 490})
    two = make_set(tmp_path / "2", "a.bin,12,2\n", {"a.bin": 490})
    assert find_dataset([two, one], KWS, ACCURACY).rows[0].label == 2


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
        ("a.bin,10,1\n", {"a.bin": 490}, "labels-malformed", "10 classes, but kws01 has 12"),
        (
            "a.bin,12,1\na.bin,12,1\n",
            {"a.bin": 490},
            "labels-malformed",
            "a.bin is listed a",
        ),
    ],
)
def test_defects_are_named(
    tmp_path: Path, labels: str, files: dict[str, int], code: str, text: str
) -> None:
    make_set(tmp_path, labels, files)
    with pytest.raises(JobError) as caught:
        find_dataset([tmp_path], KWS, ACCURACY)
    assert caught.value.code == code
    assert text in str(caught.value)


def test_labels_that_are_no_text_are_named(tmp_path: Path) -> None:
    make_set(tmp_path, "", {})
    (tmp_path / "kws01" / "y_labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(JobError, match="is not a CSV file"):
        find_dataset([tmp_path], KWS, ACCURACY)


def test_an_absent_set_lists_the_searched_folders(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"no y_labels.csv in .*kws01.*stations.toml"):
        find_dataset([tmp_path], KWS, ACCURACY)


def fill(folder: Path, count: int, name: str = "kws01", *, present: int = 1000) -> Path:
    """A list of ``count`` different inputs, of which the first ``present`` exist."""
    home = folder / name
    home.mkdir(parents=True)
    (home / "y_labels.csv").write_text("".join(f"{n}.bin,12,{n % 12}\n" for n in range(count)))
    for n in range(min(count, present)):
        (home / f"{n}.bin").write_bytes(n.to_bytes(2, "big") * 245)
    return folder


def test_every_missing_input_is_counted_and_the_first_are_named(tmp_path: Path) -> None:
    fill(tmp_path, 1000, present=0)
    with pytest.raises(JobError, match="1000 of 1000 inputs are missing in") as caught:
        find_dataset([tmp_path], KWS, ACCURACY)
    assert "(0.bin: No such file or directory, 1.bin:" in str(caught.value)
    assert "docs/official-benchmarks.md" in str(caught.value)


def test_a_folder_without_inputs_does_not_hide_a_complete_one(tmp_path: Path) -> None:
    labels_only = fill(tmp_path / "1", 20, present=0)
    complete = fill(tmp_path / "2", 20)
    found = find_dataset([labels_only, complete], KWS, ACCURACY)
    assert found.folder == complete / "kws01"


def test_windows_need_their_inputs_only(tmp_path: Path) -> None:
    fill(tmp_path, 1000, present=5)
    found = find_dataset([tmp_path], KWS, PERFORMANCE)
    assert [row.file for row in found.window_rows] == [f"{n}.bin" for n in range(5)]
    with pytest.raises(JobError, match="995 of 1000 inputs are missing"):
        find_dataset([tmp_path], KWS, (Mode.PERFORMANCE, Mode.ACCURACY))


def test_windows_have_different_inputs(tmp_path: Path) -> None:
    fill(tmp_path, 7)
    (tmp_path / "kws01" / "1.bin").write_bytes((tmp_path / "kws01" / "0.bin").read_bytes())
    found = find_dataset([tmp_path], KWS, (Mode.ENERGY,))
    assert [row.file for row in found.window_rows] == ["0.bin", *(f"{n}.bin" for n in range(2, 6))]


def test_fewer_inputs_than_windows_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    with pytest.raises(JobError, match=r"lists 4 different inputs; .* need 5") as caught:
        find_dataset([tmp_path], KWS, PERFORMANCE)
    assert caught.value.code == "too-few-inputs"
    assert find_dataset([tmp_path], KWS, ACCURACY).window_rows == ()


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    labels = tmp_path / "kws01" / "y_labels.csv"
    labels.write_bytes(b"\xef\xbb\xbf" + labels.read_bytes())
    assert find_dataset([tmp_path], KWS, ACCURACY).rows[0].file == "0.bin"


def test_another_labels_file_can_be_chosen(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    (tmp_path / "kws01" / "short.csv").write_text("3.bin,12,3\n")
    found = find_dataset([tmp_path], KWS, ACCURACY, "short.csv")
    assert ([row.file for row in found.rows], found.labels) == (["3.bin"], "short.csv")
    with pytest.raises(JobError, match=r"no absent.csv in"):
        find_dataset([tmp_path], KWS, ACCURACY, "absent.csv")


def test_a_set_is_judged_when_it_is_found(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    found = find_dataset([tmp_path], KWS, ACCURACY)
    assert found.judgement.standing is DataStanding.CUSTOM
    assert "5 are not in the official set, the first: 0.bin" in found.judgement.text


def test_files_of_too_few_windows_are_no_official_ones(tmp_path: Path) -> None:
    """Ten recordings of ad01 cut short passed as the official set."""
    home = tmp_path / "ad01"
    home.mkdir()
    shared = Path(os.environ.get("LABD_SHARED", REPO / ".." / "shared")) / "mlperf-tiny"
    labels = shared / "datasets" / "ad01" / "y_labels_alt.csv"
    if not labels.is_file():
        pytest.skip("the official label files are not here (LABD_SHARED)")
    (home / "y_labels.csv").write_bytes(labels.read_bytes())
    for line in labels.read_text().split():
        (home / line.split(",")[0]).write_bytes(bytes(2560 + 4 * 512))
    found = find_dataset([tmp_path], AD, ACCURACY)
    assert found.judgement.standing is DataStanding.CUSTOM
    assert "72 of 72 files are not cut into 196 inputs" in found.judgement.text


def test_the_hash_of_what_was_sent_counts_every_input_once() -> None:
    sent = SentInputs()
    for data, file, number in ((b"a", "a", 0), (b"a", "a", 0), (b"b", "b", 0), (b"c", "b", 1)):
        sent.add(data, file, number)
    assert (sent.count, sent.sha256) == (3, hashlib.sha256(b"abc").hexdigest())


def test_the_built_in_set_is_complete() -> None:
    dataset = find_dataset([REPO / "datasets"], SUITE["digits01"], tuple(Mode))
    assert len(dataset.rows) == 360
    assert {row.label for row in dataset.rows} == set(range(10))
    assert all(row.classes == 10 for row in dataset.rows)


def test_an_unknown_benchmark_lists_the_known_ones() -> None:
    with pytest.raises(JobError, match="use one of ad01, digits01, ic01, kws01, vww01"):
        find_benchmark("kws1")


@pytest.mark.parametrize("name", ["sww01", "ic02"])
def test_an_official_benchmark_that_labd_does_not_run_is_named(name: str) -> None:
    with pytest.raises(JobError, match=r"labd re-scores .* but does not run it"):
        find_benchmark(name)
