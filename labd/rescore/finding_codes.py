"""The codes of findings: stable words for programs, and what each means."""

from __future__ import annotations

FINDINGS = {
    "auc-impossible": "the area cannot be computed: a class never occurs, or outputs sum to 0",
    "below-target": "the closed division's limit is not met; open submissions may do so",
    "benchmark-differs": "the path names another benchmark than the session ran",
    "clock-disagrees": "a window's length does not fit the program's clock: samples or stamps are "
    "lost, or the DUT's own clock is off",
    "device-error": "the DUT reported errors (e-[…])",
    "dropped-packets": "the power monitor dropped packets",
    "edges-shifted": "duty-cycle edges paired by position do not belong together",
    "edges-unpaired": "duty-cycle starts and stops cannot be paired",
    "elapsed-differs": "a window's elapsed time does not fit its start and end",
    "energy-negative": "a window's samples add up to less than nothing",
    "extra-stamp": "more time stamps than the session's inferences make",
    "few-inferences": "a window holds fewer than 10 inferences",
    "file-damaged": "a file is cut off, empty or not what its name says",
    "file-missing": "a file that the submission checker asks for is not there",
    "folder-unreadable": "the folder is not there or cannot be listed",
    "labd-bug": "labd itself failed on this folder",
    "labels-unknown": "inputs whose class is not known: there is no score then",
    "lap-restarted": "the DUT's microsecond counter began anew: the board was reset",
    "lap-wrapped": "the DUT's microsecond counter passed 2^32; windows are taken modulo",
    "lost-stamp": "time stamps or laps are missing; windows with them",
    "mode-differs": "the path names another mode than the session measured",
    "negative-score": "results hold values below 0",
    "no-session": "nothing in the folder belongs to a known runner",
    "not-recomputed": "an official number that was published and cannot be recomputed, and why",
    "result-count": "loaded inputs and logged results differ in number",
    "results-damaged": "logged results that are no numbers, or too few",
    "runner-error": "the runner marked trials as failed",
    "score-differs": "a recomputed score is not the published one; both numbers are told",
    "score-missing": "the result text holds windows, but not the median that follows them",
    "several-files": "more than one file of a kind; the first one is used",
    "several-sessions": "the log holds more than one session",
    "sww-documented-rule": "the wake-word score under the rule of the runner's README",
    "trace-altered": "the samples are not those that were recorded: their SHA-512 differs",
    "trace-lost": "the trace holds samples without a value inside a window",
    "trace-missing": "there are no energy samples: the energy cannot be recomputed",
    "trace-short": "the trace ends before a window does",
    "window-count": "not five windows (one for wake word)",
    "window-differs": "a recomputed window is not the published one; both numbers are told",
    "window-short": "a window lasts less than 10 s",
    "windows-missing-in-log": "the log covers fewer windows than the result text lists",
    "windows-unpublished": "the raw data hold windows that the result text does not list",
    "word-count": "not 50 wake words",
}

DAMAGE = frozenset(
    {
        "elapsed-differs",
        "energy-negative",
        "file-damaged",
        "file-missing",
        "folder-unreadable",
        "labd-bug",
        "no-session",
        "not-recomputed",
        "result-count",
        "results-damaged",
        "score-missing",
        "trace-altered",
        "trace-lost",
        "trace-short",
    }
)
"""With one of these a folder is not sound, whatever its numbers say."""
