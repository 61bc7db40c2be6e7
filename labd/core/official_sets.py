"""The official data sets, and how far a data set is one of them.

Daemon and re-scorer judge by the functions here. A list of labels is identified by its files and
their classes, not by the bytes of ``y_labels.csv``, so that line ends and blanks do not matter; the
inputs are identified by SHA-256 over the bytes as sent to the DUT.

Lists: github.com/mlcommons/tiny at 1afd2c9, benchmark/evaluation/datasets; for the older list of
ic01, github.com/eembc/energyrunner at cf7c2f2, datasets/ic01; for the older list of vww01,
github.com/mlcommons/tiny_results_v1.0, closed/greenwaves-technologies.

Bytes: the inputs that EEMBC published in github.com/eembc/energyrunner; those of vww01, ad01 and
ic01 were removed on 2021-06-11 (c38c333), their hashes are those of the revision before. On these
inputs the reference models of kws01, vww01 and ic01 give the outputs in the logs of the v0.5
reference submission to the printed digit (200 files of kws01, 150 of vww01, 200 of ic01 compared).
No published copy is known of the newer ic01 list's inputs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from labd.core.model import DataStanding, Mode
from labd.core.official_labels import input_name, label_of
from labd.core.suite import SUITE, Benchmark


@dataclass(frozen=True, slots=True)
class OfficialSet:
    """One published list of labels and the inputs that belong to it.

    Args:
        benchmark: that it belongs to.
        list_name: where it was published, for people.
        files: their number.
        rows_sha256: of the sorted lines ``name,class``.
        order_sha256: of the same lines in the order of the list.
        inputs_per_file: windows that a file is cut into.
        accuracy_sha256: of all inputs in order, as sent; empty if unknown.
        windows_sha256: of the first inputs of the first five files; empty if unknown.
        distributed: whether the publisher distributes the inputs, so that other bytes are wrong;
            otherwise each user makes them from a public source, with other last digits.
    """

    benchmark: str
    list_name: str
    files: int
    rows_sha256: str
    order_sha256: str
    inputs_per_file: int = 1
    accuracy_sha256: str = ""
    windows_sha256: str = ""
    distributed: bool = False


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """One file of a data set.

    Args:
        file: its name.
        label: its class; ``None`` if unknown.
        inputs: that it is cut into; ``None`` if unknown.
        classes: that its label is one of; ``None`` if unknown.
    """

    file: str
    label: int | None
    inputs: int | None = 1
    classes: int | None = None


@dataclass(frozen=True, slots=True)
class DataJudgement:
    """How far a data set is official, the reason in one sentence, and the published list."""

    standing: DataStanding
    text: str
    official: OfficialSet | None = None

    @property
    def is_official(self) -> bool:
        """Whether a result on it may stand as one of the official benchmark."""
        return self.standing in {DataStanding.OFFICIAL, DataStanding.UNVERIFIED}


OFFICIAL_SETS = (
    OfficialSet(
        "kws01",
        "mlcommons/tiny",
        1000,
        rows_sha256="a7d3e9065efd07d39721f07a5e787456c7d7d76e1eab8713a678f70b2d8222ed",
        order_sha256="a7d3e9065efd07d39721f07a5e787456c7d7d76e1eab8713a678f70b2d8222ed",
        accuracy_sha256="c2e5f02def82726f5c49dfe85c311c52f295ad68561f6bae89931fdadaaedc73",
        windows_sha256="9c50ada1f9b5f192904d9de908249ae7a2b95ef6342027f9f632d68cbce4a40b",
        distributed=True,
    ),
    OfficialSet(
        "ic01",
        "mlcommons/tiny",
        200,
        rows_sha256="b4f3bc8309b7866e812eac8735a76db4956c60438a156cd8a3b7ae2ba0b5a869",
        order_sha256="b2b50e1319a94795523cdc08243210ea5db6dc31680ef3f7d7a3e3d84c7f3c9e",
    ),
    OfficialSet(
        "ic01",
        "the older list of eembc/energyrunner",
        200,
        rows_sha256="e88f0d2a37487c5f3a32479cce5f66ae9601d38ed5362fe18e8a6d73d07cf489",
        order_sha256="4d4a80cdbd64fbf15225fb038654b4e2164370ad1915b0257c75f24929ddec71",
        accuracy_sha256="d7ef4f4900b21fb6bd35753bdb4fa25913eabfd7ba4e5f4cd0faeb3412c21331",
        windows_sha256="5d086e242fb8a51611833daa41e7d19ac39ad4e7a2a77ce1d9bc7a6ef2239750",
    ),
    OfficialSet(
        "vww01",
        "mlcommons/tiny",
        1000,
        rows_sha256="c326253166feaaf9df84945aca33b0244365eee89efd41d51274a9de60dd9269",
        order_sha256="c8595d406f24062cca849e050244c39fd5c2cb635292bf2d674b57f6a47fd5fb",
        accuracy_sha256="e2dfc9c7bd43f40b7138d21dcdd9c763c9963f366187e642fb2199aadb6cf1c7",
        windows_sha256="32018c0e416a8f7fd7dbb714a0fab78bb3c1da6bf9232b806757d60ac1ffcb43",
    ),
    OfficialSet(
        "vww01",
        "the older list in tiny_results_v1.0",
        1985,
        rows_sha256="d55c905f4ccb371c465b821af0d9658dfa318f67d3dd58fecb491ee707390de1",
        order_sha256="fccf9de10e860a16e5c66db396cf09cc7a841fa97f98089a74982cefaf440b4c",
    ),
    OfficialSet(
        "ad01",
        "mlcommons/tiny",
        248,
        rows_sha256="655def375b3b80a843feb482856efcdfabf7e408ae08f11b05c060fc5e0057c2",
        order_sha256="c1f613f8ea16dae6870a563de811461a309ad8a6e39a4723908695c8cee14083",
        inputs_per_file=196,
        accuracy_sha256="c6850cc1f78208b01760188975810470d4e84ea87e7a7c34b56cb04e0426e0ad",
        windows_sha256="4e8948332eaf116113d4c393295a42f6efa182d2c06577f42b4e847c289eeb58",
    ),
    OfficialSet(
        "ad01",
        "mlcommons/tiny, y_labels_alt.csv",
        72,
        rows_sha256="af7526bd213105572b5c52eb08a2967086496b6483b2b7aa6964ccc40477e271",
        order_sha256="b167df6cb868a6b801b9bb4c3508e9bcb19e9e44b6a8fa73036ff790e62cb59f",
        inputs_per_file=196,
        accuracy_sha256="0df2049c0c57c515aba93bc4c5d6b2cde7e434cede29c50225614035b4c83798",
        windows_sha256="4e8948332eaf116113d4c393295a42f6efa182d2c06577f42b4e847c289eeb58",
    ),
)
"""Every published list of the benchmarks that labd scores by files."""


def judge_files(benchmark: str, files: Sequence[LabelledFile]) -> DataJudgement:
    """Judge a data set by its files and labels; of the bytes nothing is known yet.

    Args:
        benchmark: name in the suite.
        files: in the order in which they are run; empty if nothing was run.
    """
    known = [each for each in OFFICIAL_SETS if each.benchmark == benchmark]
    if not known:
        return DataJudgement(DataStanding.CUSTOM, f"{benchmark} has no official data set")
    if wrong := _wrong_classes(benchmark, files) or _repeated_files(benchmark, files):
        return DataJudgement(DataStanding.CUSTOM, wrong)
    lines = [f"{input_name(benchmark, each.file)},{each.label}\n" for each in files]
    rows_sha256, order_sha256 = _sha256(sorted(lines)), _sha256(lines)
    for each in known:
        if each.rows_sha256 == rows_sha256:
            return _judge_list(each, files, in_order=each.order_sha256 == order_sha256)
    return _judge_other(benchmark, files, known)


def judge_bytes(judgement: DataJudgement, mode: Mode, sha256: str) -> DataJudgement:
    """Judge a published list by the bytes that were sent to the DUT.

    Args:
        judgement: of :func:`judge_files`.
        mode: accuracy sends every input; the others send one of each of five files.
        sha256: of the inputs, each once, in the order in which they were first sent.
    """
    official = judgement.official
    if official is None:
        return judgement
    accuracy = mode is Mode.ACCURACY
    expected = official.accuracy_sha256 if accuracy else official.windows_sha256
    if not expected:
        return judgement
    if sha256 == expected:
        sent = "all inputs" if accuracy else "the inputs of the windows"
        text = f"{_list_text(official)}, {sent} as published"
        return replace(judgement, standing=DataStanding.OFFICIAL, text=text)
    if official.distributed:
        text = f"{_list_text(official)}, but the inputs are not the published ones"
        return replace(judgement, standing=DataStanding.CUSTOM, text=text)
    text = f"{_list_text(official)}, the inputs differ from the copy that EEMBC published in 2021"
    return replace(judgement, text=text)


def unofficial_reason(benchmark: Benchmark, judgement: DataJudgement, *, custom_data: bool) -> str:
    """Return why a result may not stand because of its data; empty if it may.

    Args:
        benchmark: whose data set it is; one that is not official may have any.
        judgement: of the data set.
        custom_data: whether the job asked for a data set of its own.
    """
    if not benchmark.official or judgement.is_official or custom_data:
        return ""
    return f"unofficial data set: {judgement.text}; --custom-data accepts it as a custom one"


def _list_text(official: OfficialSet) -> str:
    return f"official list of {official.files} files ({official.list_name})"


def _judge_list(
    official: OfficialSet, files: Sequence[LabelledFile], *, in_order: bool
) -> DataJudgement:
    """Judge a data set whose files and labels are those of a published list."""
    per_file = official.inputs_per_file
    odd = [each for each in files if each.inputs not in {None, per_file}]
    if odd:
        text = (
            f"{len(odd)} of {len(files)} files are not cut into {per_file} inputs, "
            f"the first: {odd[0].file} into {odd[0].inputs}"
        )
        return DataJudgement(DataStanding.CUSTOM, text)
    if not in_order:
        text = f"{_list_text(official)} in another order, bytes not compared"
        return DataJudgement(DataStanding.UNVERIFIED, text)
    text = f"{_list_text(official)}, bytes not compared"
    return DataJudgement(DataStanding.UNVERIFIED, text, official)


def _judge_other(
    benchmark: str, files: Sequence[LabelledFile], known: Sequence[OfficialSet]
) -> DataJudgement:
    """Judge a data set that is no published list: a part of one, or a custom one."""
    sizes = sorted({each.files for each in known})
    expected = " or ".join(map(str, sizes))
    head = f"{len(files)} files, the official set holds {expected}"
    contradicted = [
        each for each in files if label_of(benchmark, each.file) not in {None, each.label}
    ]
    if contradicted:
        text = (
            f"{head}: {len(contradicted)} have another class than in the official set, "
            f"the first: {contradicted[0].file}"
        )
        return DataJudgement(DataStanding.CUSTOM, text)
    unknown = [each.file for each in files if label_of(benchmark, each.file) is None]
    if unknown:
        text = f"{head}: {len(unknown)} are not in the official set, the first: {unknown[0] or '?'}"
        return DataJudgement(DataStanding.CUSTOM, text)
    if len(files) < sizes[-1] and len(files) not in sizes:
        return DataJudgement(DataStanding.PART, f"{head}: this is a part of the official set")
    return DataJudgement(DataStanding.CUSTOM, f"{head}: this is not the official set")


def _wrong_classes(benchmark: str, files: Sequence[LabelledFile]) -> str:
    """Return which files have another number of classes, as a sentence; empty if none has."""
    expected = SUITE[benchmark].classes
    odd = [each for each in files if each.classes not in {None, expected}]
    if not odd:
        return ""
    return (
        f"{len(odd)} of {len(files)} files are labelled with {odd[0].classes} classes, "
        f"{benchmark} has {expected}"
    )


def _repeated_files(benchmark: str, files: Sequence[LabelledFile]) -> str:
    """Return which files occur more than once, as a sentence; empty if none does."""
    counts = Counter(input_name(benchmark, each.file) for each in files)
    repeated = [name for name, count in counts.items() if count > 1]
    if not repeated:
        return ""
    return f"{len(repeated)} of {len(files)} files occur more than once, the first: {repeated[0]}"


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()
