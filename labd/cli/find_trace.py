"""Find a trace on this host by path or by job."""

from __future__ import annotations

from pathlib import Path

from drivers.base.registry import Registry
from labd.core.errors import ConfigError
from labd.station.config import load_config
from labd.store.journal.attempts import read_attempts
from labd.store.journal.journal import Journal
from labd.store.state_directory import StateDirectory
from labd.store.traces.sigmf import DATA, META, TracePaths


def find_trace(text: str, config: Path) -> tuple[Path, str]:
    """Find a trace by its file, its folder, or its job.

    Args:
        text: ``energy.sigmf-data``, ``folder``, ``JOB`` or ``JOB/ATTEMPT``.
        config: the lab whose jobs these are.

    Returns:
        the trace's path without suffix, and a name for files made from it.

    Raises:
        ConfigError: ``no-trace``: there is none, or several; ``trace-removed``: there was one;
            or the lab's file is wrong.
    """
    path = Path(text.removesuffix(META).removesuffix(DATA))
    if path.name and TracePaths(path).meta_file.exists():
        return path, path.name
    if path.is_dir() and (found := _traces_in_folder(path)):
        return _require_single_trace(found, text), _require_single_trace(found, text).name
    job, _, attempt = text.partition("/")
    state = StateDirectory(load_config(config, Registry.from_entry_points()).state)
    folder = state.traces_directory / job
    if not folder.is_dir() or job in {"", ".", ".."}:
        _refuse_removed_run(state, job, attempt)
        what = f"{text} is no trace, and {state.traces_directory} has none of a job of that name"
        raise ConfigError("no-trace", what, "`labd traces` lists them")
    attempts = sorted(int(each.name) for each in folder.iterdir() if each.name.isdecimal())
    number = attempt or (str(attempts[-1]) if attempts else "")
    found = _traces_in_folder(folder / number)
    if not number.isdecimal() or not found:
        _refuse_removed_run(state, job, number)
        known = ", ".join(map(str, attempts)) or "none"
        what = f"attempt {number or '?'} of {job} left no trace on this host"
        raise ConfigError("no-trace", what, f"attempts with files: {known}")
    trace = _require_single_trace(found, text)
    return trace, f"{job}-{number}-{trace.name}"


def _refuse_removed_run(state: StateDirectory, job: str, attempt: str) -> None:
    """Refuse a run whose files were removed by the lab's limits.

    Raises:
        ConfigError: ``trace-removed``: they were.
    """
    if not state.journal_file.exists():
        return
    journal = Journal(state.journal_url)
    try:
        removed = [
            each.attempt for each in read_attempts(journal) if each.job == job and each.removed
        ]
    finally:
        journal.close()
    gone = [number for number in removed if attempt in ("", str(number))]
    if gone:
        which = ("attempt " if len(gone) == 1 else "attempts ") + ", ".join(map(str, gone))
        raise ConfigError(
            "trace-removed",
            f"the files of {job}, {which}, were removed to make room: keep_days or "
            "keep_gb under [traces] in stations.toml",
            f"`labctl show {job}` has its scores and windows; `labctl pin` keeps a job's files",
        )


def _traces_in_folder(folder: Path) -> list[Path]:
    return sorted(path.with_name(path.name.removesuffix(META)) for path in folder.glob(f"*{META}"))


def _require_single_trace(found: list[Path], text: str) -> Path:
    if len(found) > 1:
        known = ", ".join(str(path) for path in found)
        raise ConfigError("no-trace", f"{text} has several traces", f"name one: {known}")
    return found[0]
