"""Codes of findings: stable words for programs, with their meaning."""

from __future__ import annotations

FINDINGS = {
    "auc-impossible": "the AUC cannot be computed: a class never occurs, or outputs sum to 0",
    "below-target": "the closed division's limit is not met; the open division has none",
    "benchmark-differs": "the path names another benchmark than the session ran",
    "clock-disagrees": "a window's length does not fit the runner's clock: samples or timestamps "
    "are lost, or the DUT's clock is off",
    "device-error": "the DUT reported errors (e-[…])",
    "dropped-packets": "the power monitor dropped packets",
    "edges-shifted": "duty-cycle edges paired by position do not belong together",
    "edges-unpaired": "duty-cycle starts and stops cannot be paired",
    "elapsed-differs": "a window's elapsed time does not fit its start and end",
    "energy-negative": "a window's energy is negative",
    "extra-stamp": "more timestamps than the session's batches make",
    "few-inferences": "a window holds fewer than 10 inferences",
    "file-damaged": "a file is cut off, empty or not of the kind that its name states",
    "file-missing": "a file that the submission checker requires is missing",
    "folder-unreadable": "the folder is missing or cannot be listed",
    "labd-bug": "labd itself failed on this folder",
    "labels-unknown": "the class of an input is unknown: there is no score",
    "lap-restarted": "the DUT's microsecond counter restarted: the board was reset",
    "lap-wrapped": "the DUT's microsecond counter wrapped at 2^32; windows allow for it",
    "lost-stamp": "timestamps or laps are missing, and their windows with them",
    "mode-differs": "the path names another mode than the session measured",
    "negative-score": "results hold negative values",
    "no-session": "the folder holds no session of a known runner",
    "not-recomputed": "an official number that was published and cannot be recomputed, and why",
    "result-count": "loaded inputs and logged results differ in number",
    "results-damaged": "logged results are no numbers, or too few",
    "runner-error": "the runner marked trials as failed",
    "score-differs": "a recomputed score differs from the published one",
    "score-missing": "the result text lacks a score, such as the median after its windows",
    "several-files": "more than one file of a kind; the first one is used",
    "several-sessions": "the log holds more than one session",
    "sww-documented-rule": "the wake-word score under the rule of the runner's README",
    "trace-altered": "the samples are not the recorded ones: their SHA-512 differs",
    "trace-lost": "samples within a window are lost",
    "trace-missing": "there are no energy samples: energy cannot be recomputed",
    "trace-short": "the trace ends before a window does",
    "window-count": "not five windows (one for wake word)",
    "window-differs": "a recomputed window differs from the published one",
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
"""Codes that make a folder unsound even if its numbers agree."""
