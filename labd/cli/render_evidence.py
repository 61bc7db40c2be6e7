"""What a result rests on: what was measured, which files of the run are kept, and the details."""

from __future__ import annotations

from collections.abc import Sequence

from labd.core.model import Identity
from labd.wire.results import ClockMapRecord, DatasetRecord, ModeVerdict, ResultDetails

SHOWN_APART = ("model", "profile", "firmware", "firmware_sha256", "folder", "transcript")
"""Details that :func:`format_kept_files` says once for a whole run."""


def format_kept_files(
    job: str, attempt: int, results: Sequence[ModeVerdict], *, removed: bool
) -> list[str]:
    """Say what an attempt measured, and which of its files are kept and where.

    Args:
        job: id of the job.
        attempt: number of the attempt, 0 before the first.
        results: of the modes that ended; a failed attempt has files without any.
        removed: the files were removed to make room.
    """
    firmware = dict.fromkeys(_format_firmware(result.details) for result in results)
    lines = [f"measured: {text}" for text in firmware if text]
    if not attempt:
        return lines
    folder = f"traces/{job}/{attempt}"
    if removed:
        return [*lines, f"files: removed from {folder}; scores, windows and events are kept"]
    names = dict.fromkeys(name for result in results for name in _list_files(result))
    what = ", ".join(names) or "what the attempt wrote until it ended"
    return [*lines, f"files: {what}", f"       in {folder} of the daemon's state directory"]


def format_evidence(result: ModeVerdict, *, removed: bool) -> list[str]:
    """Format the evidence of one mode, a line per detail; ``removed``: its files are."""
    lines: list[str] = []
    for key, value in result.details:
        match key, value:
            case "instruments", dict():
                lines += [
                    f"{part}: {_format_identity(who)}"
                    for part, who in result.details.instruments.items()
                ]
            case "dataset", DatasetRecord() as dataset:
                lines.append(f"data: {_format_dataset(dataset)}")
            case "clocks", tuple():
                clocks = result.details.clocks or ()
                lines += [f"clock: {_format_clock_map(each)}" for each in clocks]
            case "monitor_counts", dict():
                counts = (result.details.monitor_counts or {}).items()
                said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts)
                lines.append(f"power monitor: {said}")
            case "trace", str() if removed:
                lines.append(f"trace: {value} (removed)")
            case _:
                is_shown = key not in SHOWN_APART and value not in (None, "", (), [])
                lines += [f"{key}: {value}"] if is_shown else []
    return lines


def _format_firmware(details: ResultDetails) -> str:
    """Say which model ran on which firmware: the image, or what the board reports."""
    model = f"model {details.model}, " if details.model else ""
    if details.firmware:
        return f"{model}firmware {details.firmware}, SHA-256 {details.firmware_sha256}"
    if not details.dut and not details.profile:
        return model.removesuffix(", ")
    reported = " ".join(filter(None, (details.dut, details.profile)))
    return f"{model}firmware not flashed by labd, the board reports: {reported}"


def _list_files(result: ModeVerdict) -> list[str]:
    """Return the names of the files that a mode's result rests on."""
    details = result.details
    trace = f"{details.trace}.sigmf-data" if details.trace else None
    named = (details.transcript, details.outputs, details.inferences, trace)
    return [*filter(None, named), f"result-{result.mode}.json"]


def _format_dataset(dataset: DatasetRecord) -> str:
    """Format a data set in one line."""
    return (
        f"{dataset.standing}: {dataset.text}; {dataset.sent} inputs sent, "
        f"SHA-256 {dataset.sent_sha256[:16]}…"
    )


def _format_identity(identity: Identity) -> str:
    """Format the identity of a part in one line."""
    firmware = identity.firmware and f"firmware {identity.firmware}"
    words = [identity.kind, identity.name, identity.serial, firmware]
    return " ".join(filter(None, words)) + (", simulated" if identity.simulated else "")


def _format_clock_map(clock: ClockMapRecord) -> str:
    """Format a clock map in one line."""
    text = (
        f"{clock.a} to {clock.b}: {clock.rate_ppm:+.2f} ± {clock.rate_error_ppm:.2f} ppm, "
        f"known to {clock.offset_error_s * 1e6:.0f} µs over {clock.tied_s:.1f} s"
    )
    if clock.pairs is None or clock.residual_rms_s is None:
        return text
    return f"{text}, {clock.pairs} marks, residual rms {clock.residual_rms_s * 1e6:.0f} µs"
