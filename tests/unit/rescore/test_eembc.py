"""Sessions of the EEMBC runner, in the shapes the public rounds hold them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from labd.core.model import Mode
from labd.core.official_labels import label_of
from labd.rescore import SessionFiles, SessionScore, find_tasks, is_sound, rescore_folder
from tests.unit.rescore import made_folders as made


def score(folder: Path) -> SessionScore:
    [task] = find_tasks([folder])
    [found] = rescore_folder(task)
    return found


def codes(found: SessionScore) -> list[str]:
    return [finding.code for finding in found.findings]


def rewrite(path: Path, old: str, new: str, count: int = -1) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def test_a_performance_session_comes_out_again(tmp_path: Path) -> None:
    found = score(made.write_performance(tmp_path / "kws" / "performance"))
    assert (found.runner, found.benchmark, found.mode) == ("eembc", "kws01", Mode.PERFORMANCE)
    assert found.agrees is True
    assert found.findings == []
    assert [window.runtime_s for window in found.windows] == [12.0] * 5
    assert found.score == {"median_throughput_ips": 10.0}
    assert is_sound(found)


def test_the_object_has_the_promised_keys(tmp_path: Path) -> None:
    plain = score(made.write_performance(tmp_path)).as_json()
    assert list(plain) == [
        *("folder", "runner", "benchmark", "mode", "windows", "score", "published", "agrees"),
        "findings",
    ]
    assert plain["windows"][0] == {"inferences": 120, "runtime_s": 12.0, "throughput_ips": 10.0}
    assert plain["published"]["windows"][4] == plain["windows"][4]
    assert plain["published"]["median_throughput_ips"] == 10.0
    assert json.loads(json.dumps(plain)) == plain


def test_a_wrapped_lap_is_taken_modulo_and_reported(tmp_path: Path) -> None:
    starts = range(2**32 - 85_000_000, 2**32, 20_000_000)
    laps = [(start, (start + 12_000_000) % 2**32) for start in starts]
    found = score(made.write_performance(tmp_path, laps=laps))
    assert found.agrees is True
    assert found.windows[4].runtime_s == 12.0
    assert codes(found) == ["lap-wrapped"]
    assert found.findings[0].text.endswith("wrapped at 2^32 once from 4289967296 to 7000000")


def test_a_counter_that_restarts_is_reported(tmp_path: Path) -> None:
    laps = [(start, start + 12_000_000) for start in (101_000_000, 1_000_000, 21_000_000)]
    laps += [(start, start + 12_000_000) for start in (41_000_000, 61_000_000)]
    found = score(made.write_performance(tmp_path, laps=laps))
    assert found.agrees is True
    assert codes(found) == ["lap-restarted"]


def test_laps_may_be_longer_than_32_bits(tmp_path: Path) -> None:
    begin = 1_621_210_033_093_134
    laps = [(begin + n, begin + n + 12_000_000) for n in range(0, 10**8, 2 * 10**7)]
    found = score(made.write_performance(tmp_path, laps=laps))
    assert found.agrees is True
    assert found.findings == []


def test_the_last_digit_decides(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    rewrite(folder / "results.txt", "10.000 inf", "10.001 inf", 1)
    found = score(folder)
    assert found.agrees is False
    assert codes(found) == ["window-differs"]
    assert "10.0 recomputed, 10.001 published" in found.findings[0].text
    assert not is_sound(found)


def test_a_wrong_median_is_reported(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    rewrite(folder / "results.txt", "throughput is 10.000", "throughput is 10.100")
    found = score(folder)
    assert found.agrees is False
    assert codes(found) == ["score-differs"]


@pytest.mark.parametrize(("length", "inferences"), [(9_999_999, 120), (12_000_000, 9)])
def test_short_windows_and_few_inferences_are_reported(
    tmp_path: Path, length: int, inferences: int
) -> None:
    laps = made.rising(length)
    found = score(made.write_performance(tmp_path, laps=laps, inferences=inferences))
    assert found.agrees is True
    assert codes(found) == (["window-short"] * 5 if inferences > 9 else ["few-inferences"] * 5)


def test_ten_seconds_and_ten_inferences_are_enough(tmp_path: Path) -> None:
    laps = made.rising(10_000_000)
    assert score(made.write_performance(tmp_path, laps=laps, inferences=10)).findings == []


def test_the_last_matching_line_wins(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    text = (folder / "results.txt").read_text()
    (folder / "results.txt").write_text(text.replace("10.000", "9.000") + text)
    found = score(folder)
    assert found.agrees is True
    assert len(found.published.windows) == 5


@pytest.mark.parametrize("listeners", [2, 5])
def test_lines_printed_several_times_are_one_result(tmp_path: Path, listeners: int) -> None:
    folder = made.write_performance(
        tmp_path, laps=made.rising(*range(11_000_000, 11_500_000, 10**5))
    )
    lines = (folder / "results.txt").read_text().splitlines()
    made.write(folder, "results.txt", [line for line in lines for _ in range(listeners)])
    found = score(folder)
    assert found.agrees is True
    assert found.findings == []
    assert [w.values["runtime_s"].text for w in found.published.windows] == [
        "11.000",
        "11.100",
        "11.200",
        "11.300",
        "11.400",
    ]


def test_energy_printed_several_times_is_one_result(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    add_throughput(folder)
    lines = (folder / "results.txt").read_text().splitlines()
    made.write(folder, "results.txt", [line for line in lines for _ in range(3)])
    found = score(folder)
    assert found.agrees is True
    assert found.findings == []
    assert len(found.published.all_windows) == 5


def test_prefixed_gzipped_files_with_a_mark_and_any_line_ends(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path / "performance", prefix="performance_")
    log = folder / "performance_log.txt"
    (folder / "performance_log.txt.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    results = folder / "performance_results.txt"
    results.write_bytes("\ufeff".encode("utf-16")[:2] + results.read_text().encode("utf-16-le"))
    script = folder / "performance_script.async"
    script.rename(folder / "performance_script.txt")
    found = score(folder)
    assert found.agrees is True
    assert found.findings == []


def test_echoes_noise_and_lines_without_prefix_are_read(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    log = folder / "log.txt"
    rewrite(log, "dut: m-infer-start", "dut: \x00infer 120 1%m-warmup-start-1m-infer-start")
    rewrite(log, "dut: m-lap-us-13000000", "dut: got ack\nfeature interrupt m-lap-us-13000000")
    log.write_bytes(log.read_bytes() + b"\xff\xfe\x80 junk\n")
    found = score(folder)
    assert found.agrees is True
    assert found.findings == []


def test_a_log_with_fewer_windows_holds_some_of_the_published_ones(tmp_path: Path) -> None:
    lengths = [11_000_000 + 100_000 * n for n in range(5)]
    folder = made.write_performance(tmp_path, laps=made.rising(*lengths))
    text = (folder / "results.txt").read_text()
    made.write_performance(folder, laps=made.rising(11_100_000, 11_300_000))
    (folder / "results.txt").write_text(text)
    made.write(folder, "script.async", ["cmd: 'dut infer 120 1'"] * 5)
    found = score(folder)
    assert found.agrees is True
    assert [window.runtime_s for window in found.windows] == [11.1, 11.3]
    assert f"{found.score['median_throughput_ips']:.3f}" == f"{120 / 11.2:.3f}"
    assert codes(found) == ["window-count", "windows-missing-in-log"]
    assert "missing: 2, 6, 10" in found.findings[1].text


def test_of_several_sessions_in_a_log_the_published_one_counts(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    first = (folder / "log.txt").read_text()
    made.write_performance(folder, laps=made.rising(10_500_000))
    later = (folder / "log.txt").read_text()
    (folder / "log.txt").write_text(later + first + later)
    found = score(folder)
    assert found.agrees is True
    assert found.windows[0].runtime_s == 10.5
    (folder / "log.txt").write_text(later + first)
    again = score(folder)
    assert again.agrees is True
    assert codes(again) == ["several-sessions"]


def test_single_runs_one_after_the_other_are_all_windows(tmp_path: Path) -> None:
    logs: list[str] = []
    texts: list[str] = []
    for length in (11_000_000, 12_000_000, 14_000_000):
        folder = made.write_performance(tmp_path, laps=[(1_000_000, 1_000_000 + length)])
        logs.append((folder / "log.txt").read_text())
        texts += made.performance_block(2, 120, length / 1e6)
    (tmp_path / "log.txt").write_text("".join(logs))
    made.write(tmp_path, "results.txt", texts)
    found = score(tmp_path)
    assert found.agrees is True
    assert [window.runtime_s for window in found.windows] == [11.0, 12.0, 14.0]
    assert found.score["median_throughput_ips"] == 10.0
    assert codes(found) == ["several-sessions", "lap-restarted", "window-count"]


def test_results_printed_into_the_log_are_published_too(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    text = (folder / "results.txt").read_text()
    (folder / "results.txt").unlink()
    with (folder / "log.txt").open("a") as log:
        log.write(text)
    found = score(folder)
    assert found.agrees is True
    assert len(found.published.windows) == 5
    assert codes(found) == ["file-missing"]


def test_a_lost_lap_loses_its_window_only(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    lines = (folder / "log.txt").read_text().splitlines(keepends=True)
    del lines[max(i for i, line in enumerate(lines) if "m-lap-us-13000000" in line)]
    (folder / "log.txt").write_text("".join(lines))
    found = score(folder)
    assert len(found.windows) == 4
    assert "lost-stamp" in codes(found)
    assert "windows-missing-in-log" in codes(found)


def test_laps_in_odd_places_are_paired_by_their_order(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    lines = (folder / "log.txt").read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if "m-lap-us-1000000" in line)
    lines[at - 1 : at + 1] = [lines[at], lines[at - 1]]
    (folder / "log.txt").write_text("".join(lines))
    found = score(folder)
    assert found.agrees is True
    assert found.findings == []


def test_a_clock_that_is_far_off_is_reported(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    rewrite(folder / "log.txt", "00022.000 dut: m-infer-done", "00025.000 dut: m-infer-done", 1)
    found = score(folder)
    assert codes(found) == ["clock-disagrees"]


def test_a_device_error_is_reported_but_not_the_runners(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    with (folder / "log.txt").open("a") as log:
        log.write("00999.000 ulp-mlperf: e-[The run must take at least 10 seconds]\r\n")
        log.write("00999.000 dut: m-profile-[x] m-name-[y]\r\n")
    assert codes(score(folder)) == []
    with (folder / "log.txt").open("a") as log:
        log.write("00999.000 dut: e-[Insufficent number of hex digits]\r\n")
    assert codes(score(folder)) == ["device-error"]


def insert_text(folder: Path, before: str, text: str) -> None:
    """Insert a line of the DUT before each line with a word."""
    log = folder / "log.txt"
    lines: list[str] = []
    for line in log.read_text().splitlines():
        lines += [f"00010.000 dut: {text}", line] if before in line else [line]
    log.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "text",
    [
        "Input db has 489 elements, expected 490",
        "infer 120 1%Input db has 489 elemented, expected 490",
        "Invoke failed",
        "calculate result error: output size != input size",
        "inference skipped",
    ],
)
@pytest.mark.parametrize("before", ["m-infer-start", "m-infer-done"])
def test_a_failure_within_a_reply_is_a_device_error(text: str, before: str, tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    insert_text(folder, before, text)
    found = score(folder)
    assert codes(found) == ["device-error"]
    assert found.findings[0].text.startswith("the device reported 5 errors, the first: ")


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("m-infer-start", "Input db has 490 elements, expected 490"),
        ("m-infer-start", "core-[0] clock 98 MHz"),
        ("m-infer-done", "0 errors"),
        ("m-lap-us-500", "Error loading DNN failed: *unknown*"),  # a boot text
    ],
)
def test_information_is_no_device_error(before: str, text: str, tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    insert_text(folder, before, text)
    assert codes(score(folder)) == []


def test_a_device_error_is_reported_without_a_trace_too(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    insert_text(folder, "m-infer-done", "Type error")
    (folder / "trace1-timestamps.json").unlink()
    (folder / "trace1-energy.bin").unlink()
    found = score(folder)
    assert found.windows == []
    assert "device-error" in codes(found)


# ---- energy ------------------------------------------------------------------------------


def test_an_energy_session_comes_out_again(tmp_path: Path) -> None:
    found = score(made.write_energy(tmp_path / "ic" / "power"))
    assert (found.runner, found.benchmark, found.mode) == ("eembc", "ic01", Mode.ENERGY)
    assert found.agrees is True
    assert found.findings == []
    assert found.score["median_energy_uj"] == pytest.approx(48_000)
    assert found.windows[0].known_values() == pytest.approx(
        {
            "inferences": 10,
            "runtime_s": 12.0,
            "throughput_ips": 10 / 12,
            "energy_uj": 480_000.0,
            "power_uw": 40_000.0,
            "energy_per_inference_uj": 48_000.0,
        }
    )


def test_a_lost_stamp_leaves_four_windows(tmp_path: Path) -> None:
    found = score(made.write_energy(tmp_path, stamps=10))
    assert found.agrees is True
    assert len(found.windows) == 4
    assert codes(found) == ["lost-stamp", "window-count"]


def test_lost_samples_show_against_the_program_clock(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    times = json.loads((folder / "trace1-timestamps.json").read_text())
    times[2] -= 0.7
    (folder / "trace1-timestamps.json").write_text(json.dumps(times))
    assert "clock-disagrees" in codes(score(folder))


def test_a_trace_that_ends_early_is_reported(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    trace = folder / "trace1-energy.bin"
    trace.write_bytes(trace.read_bytes()[:-4003])
    found = score(folder)
    assert found.agrees is True
    assert codes(found) == ["file-damaged"]
    assert not is_sound(found)
    made.write_trace(trace, [40.0] * 80_000)
    assert "trace-short" in codes(score(folder))


def test_a_sample_without_value_costs_its_window_only(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    samples = [40.0] * 96_000
    samples[3_000] = float("nan")
    made.write_trace(folder / "trace1-energy.bin", samples)
    found = score(folder)
    assert len(found.windows) == 4
    assert "trace-lost" in codes(found)


STAMPED = {"inferences": 10, "runtime_s": 12.0, "throughput_ips": 10 / 12}


def add_throughput(folder: Path) -> None:
    """What the runner prints below the energy: how long the windows were."""
    lines = [line for n in range(2, 12, 2) for line in made.performance_block(n, 10, 12.0)]
    lines.append("00200.000 ulp-ml: Median throughput is 0.833 inf./sec.")
    with (folder / "results.txt").open("a") as results:
        results.write("\n".join(lines))


def test_energy_without_a_trace_is_reported_and_not_invented(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    (folder / "trace1-energy.bin").unlink()
    found = score(folder)
    assert [window.known_values() for window in found.windows] == [STAMPED] * 5
    assert found.score == {"median_throughput_ips": 10 / 12}
    assert found.agrees is None
    assert codes(found) == ["file-missing", "trace-missing", "not-recomputed"]
    assert found.published.score["median_energy_uj"].text == "48000.000"
    assert not is_sound(found)
    add_throughput(folder)
    again = score(folder)
    assert again.agrees is None
    assert "median_energy_uj 48000.000" in again.findings[-1].text


def test_a_trace_that_is_only_a_pointer_leaves_the_length_of_the_windows(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    (folder / "trace1-energy.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    found = score(folder)
    assert [window.known_values() for window in found.windows] == [STAMPED] * 5
    assert codes(found) == ["trace-missing", "file-damaged", "not-recomputed"]


def test_timestamps_in_the_log_replace_their_lost_file(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    times = json.loads((folder / "trace1-timestamps.json").read_text())
    times[1] += 0.0004  # beyond the six digits that the file would have kept
    for name in ("trace1-energy.bin", "trace1-timestamps.json"):
        (folder / name).unlink()
    with (folder / "log.txt").open("a") as log:
        log.writelines(f"00200.000 emon: m-lap-us-{round(t * 1e6) - 1}\n" for t in times)
    found = score(folder)
    lengths = [window.runtime_s for window in found.windows]
    assert lengths == [pytest.approx(11.9996), *[12.0] * 4]
    assert "trace-missing" in codes(found)
    assert "energy_uj" not in found.windows[0].known_values()


def test_energy_without_trace_and_stamps_has_only_what_was_published(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    for name in ("trace1-energy.bin", "trace1-timestamps.json"):
        (folder / name).unlink()
    found = score(folder)
    assert (found.windows, found.score, found.agrees) == ([], {}, None)
    assert codes(found) == ["file-missing", "file-missing", "not-recomputed"]


def test_the_io_boards_own_clock_does_not_stand_in_for_the_monitors(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    times = json.loads((folder / "trace1-timestamps.json").read_text())
    for name in ("trace1-energy.bin", "trace1-timestamps.json"):
        (folder / name).unlink()
    with (folder / "log.txt").open("a") as log:
        log.writelines(f"00200.000 io: m-lap-us-{round(t * 1.1e6)}\n" for t in times)
    found = score(folder)
    assert (found.windows, found.score, found.agrees) == ([], {}, None)


def test_energy_without_a_log_counts_by_the_script(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path / "ic" / "energy")
    (folder / "log.txt").unlink()
    found = score(folder)
    assert found.agrees is True
    assert codes(found) == ["file-missing"]


# ---- accuracy ----------------------------------------------------------------------------


def test_an_accuracy_session_comes_out_again(tmp_path: Path) -> None:
    found = score(made.write_accuracy(tmp_path / "kws" / "accuracy"))
    assert (found.benchmark, found.mode) == ("kws01", Mode.ACCURACY)
    assert found.agrees is True
    assert found.score["top1_pct"] == 87.5
    assert codes(found) == ["below-target"]
    assert found.windows == []


def test_a_lost_result_is_reported(tmp_path: Path) -> None:
    folder = made.write_accuracy(tmp_path)
    lines = (folder / "log.txt").read_text().splitlines(keepends=True)
    (folder / "log.txt").write_text("".join([*lines[:-2], lines[-1]]))
    assert "result-count" in codes(score(folder))


def test_negative_scores_and_trailing_commas_are_read(tmp_path: Path) -> None:
    folder = made.write_accuracy(tmp_path)
    rewrite(folder / "log.txt", "0.001]", "-0.125,]", 1)
    found = score(folder)
    assert found.agrees is True
    assert "negative-score" in codes(found)


def test_results_that_are_no_numbers_are_reported(tmp_path: Path) -> None:
    folder = made.write_accuracy(tmp_path)
    rewrite(folder / "log.txt", "0.990,", "nan,", 1)
    assert "results-damaged" in codes(score(folder))


def test_unknown_inputs_make_no_score(tmp_path: Path) -> None:
    folder = made.write_accuracy(tmp_path)
    rewrite(folder / "log.txt", made.KWS_FILES[3], "my_own_file.bin")
    found = score(folder)
    assert found.score == {}
    assert "labels-unknown" in codes(found)


def test_an_accuracy_log_without_result_text_is_scored_but_not_compared(tmp_path: Path) -> None:
    folder = made.write_accuracy(tmp_path)
    (folder / "results.txt").unlink()
    found = score(folder)
    assert found.score["top1_pct"] == 87.5
    assert found.agrees is None
    assert "file-missing" in codes(found)


def test_the_path_is_checked_against_the_content(tmp_path: Path) -> None:
    found = score(made.write_accuracy(tmp_path / "vww" / "energy"))
    assert (found.benchmark, found.mode) == ("kws01", Mode.ACCURACY)
    assert {"benchmark-differs", "mode-differs"} <= set(codes(found))


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("000000343218.bin", 1),
        ("COCO_val2014_000000296848.bin", 1),
        ("COCO_val2014_000000064884.bin", 0),
        ("COCO_val2014_000000000001.bin", None),
    ],
)
def test_both_published_sets_of_pictures_are_known(file: str, label: int | None) -> None:
    assert label_of("vww01", file) == label


def test_anomaly_windows_are_averaged_by_file(tmp_path: Path) -> None:
    log = ["1.000 session: m-session-start-id[1]", *made.config("runMode", "multi")]
    log[0] = "00001.000 session: m-session-start-id[1]"
    for name, scores in (
        ("normal_id_01_1", (1, 3)),
        ("normal_id_01_2", (6, 6)),
        ("anomaly_id_1", (0, 10)),
    ):
        for offset, value in enumerate(scores):
            log += [
                f'00002.000 parser: Command "bload dut "/s/ad01/{name}.bin" {offset} 2560"',
                "00002.000 dut: m-infer-start-1",
                f"00002.000 dut: m-results-[{value}.000]",
            ]
    made.write(tmp_path, "log.txt", log)
    made.write(tmp_path, "accuracy_results.txt", ["00003.000 ulp-mlperf: AUC: 0.50"])
    found = score(tmp_path)
    assert found.benchmark == "ad01"
    assert found.score["auc"] == 0.5
    assert found.agrees is True


def test_a_folder_is_found_by_its_mode_however_it_is_spelled(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path / "results" / "max_performance" / "ic" / "enegy")
    for file in folder.iterdir():
        if file.name != "log.txt":
            file.unlink()
    (folder / "log.txt").write_text("nothing that is known\n")
    found = score(folder.parent.parent)
    assert (found.benchmark, found.mode) == ("ic01", Mode.ENERGY)


def test_one_folder_is_one_task(tmp_path: Path) -> None:
    folder = made.write_accuracy(tmp_path)
    assert [task.folder for task in find_tasks([folder, folder])] == [folder]
    assert isinstance(next(iter(find_tasks([folder]))), SessionFiles)
