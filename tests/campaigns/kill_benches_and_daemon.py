"""Kill emulated benches and the daemon at random moments under load: is every job still run once?

python -m tests.campaigns.kill_benches_and_daemon [KILLS] [--stations 3] [--seed 0] [--keep DIR]

Each kill is SIGKILL to one bench, to all benches at once, or to the daemon, which is started
again. Jobs are submitted all the time, some of them twice, some are cancelled; a job takes a
second or two. At the end the daemon is left alone until the queue is empty, then the journal is
checked:

* the daemon never ended by itself;
* every accepted job has ended; none is leased or running without a station;
* its events are numbered without a hole; every attempt was leased, started and, but for the
  last one, ended by an event ``requeued``; the last event is the only ``finished``;
* a job that passed or failed has one result per mode, of its last attempt.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from labd.client.lab_client import LabClient
from labd.core.errors import JobError, LabdError
from labd.store.journal.journal import Journal
from labd.wire.job_events import Event, EventType
from tests.system.lab import REPO, Lab

IMAGES = 12
QUEUE = 6
"""Jobs that wait or run at any time."""

STATION = """
[[station]]
name = "v{number}"
board = "nucleo-l4r5zi"
off_s = 0.0
emulated = {{ seed = {number}, mode = "freeze" }}
"""


class Campaign:
    """A lab whose processes are killed."""

    def __init__(self, folder: Path, stations: int, seed: int) -> None:
        self.random = random.Random(seed)
        text = "".join(STATION.format(number=number + 1) for number in range(stations))
        self.lab = Lab(folder, text)
        self.datasets = copy_small_dataset(folder / "datasets")
        self.accepted: list[str] = []
        self.kills: Counter[str] = Counter()
        self.problems: list[str] = []

    def start(self) -> None:
        self.lab.start("--datasets", str(self.datasets), "--log-json")

    async def run(self, kills: int) -> None:
        """Kill as often as ordered, then wait for the end of every job."""
        self.start()
        await self.lab.ready()
        submitting = asyncio.create_task(self.keep_submitting())
        while sum(self.kills.values()) < kills and not self.problems:
            await asyncio.sleep(self.random.uniform(0.05, 2.0))
            await self.kill_something()
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        await self.wait_for_empty_queue(900.0)
        self.note_unexpected_end()
        self.lab.stop()
        self.check_journal()

    async def kill_something(self) -> None:
        benches = self.bench_pids()
        kind = self.random.choices(["bench", "benches", "daemon"], [6, 2, 2])[0]
        self.note_unexpected_end()
        if kind == "daemon":
            self.lab.kill()
            self.start()
            self.kills[kind] += 1
            if self.random.random() < 0.5:
                with suppress(AssertionError):
                    await self.lab.ready(60.0)
        elif benches:
            chosen = benches if kind == "benches" else [self.random.choice(benches)]
            for pid in chosen:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.kills[kind] += 1

    def bench_pids(self) -> list[int]:
        """Processes of this lab's emulated benches."""
        found: list[int] = []
        directory = os.fsencode(self.lab.folder / "state" / "bench")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    command = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"labd.simulation" in command and directory in command:
                        found.append(int(entry.name))
        return found

    def note_unexpected_end(self) -> None:
        process = self.lab.process
        if process is not None and process.poll() is not None:
            tail = self.lab.log.read_text(errors="replace")[-2000:]
            self.problems.append(f"the daemon ended by itself: {process.returncode}\n{tail}")

    async def keep_submitting(self) -> None:
        """Keep the queue filled, with repeated submissions and cancellations among the rest."""
        number = 0
        while True:
            try:
                async with self.lab.client() as client:
                    while True:
                        waiting = await client.list_jobs(states=["queued", "leased", "running"])
                        if len(waiting) < QUEUE:
                            number += 1
                            await self.submit(client, f"j{number}")
                        elif self.random.random() < 0.02:
                            with suppress(JobError):
                                await client.send_request(
                                    "cancel", job=self.random.choice(waiting).job
                                )
                        await asyncio.sleep(0.2)
            except (LabdError, TimeoutError):
                await asyncio.sleep(0.5)

    async def submit(self, client: LabClient, job: str) -> None:
        modes = self.random.choice([["accuracy"], ["accuracy", "performance"], ["energy"]])
        for _ in range(self.random.choice([1, 1, 2])):
            await client.send_request("submit", job=job, benchmark="digits01", modes=modes)
            if job not in self.accepted:
                self.accepted.append(job)

    async def wait_for_empty_queue(self, deadline_s: float) -> None:
        end = time.monotonic() + deadline_s
        left: list[str] = ["unknown"]
        while left and time.monotonic() < end:
            self.note_unexpected_end()
            if self.problems:
                return
            with suppress(LabdError, TimeoutError):
                async with self.lab.client() as client:
                    open_jobs = await client.list_jobs(states=["queued", "leased", "running"])
                    left = [f"{job.job} {job.state} {job.waiting}" for job in open_jobs]
            await asyncio.sleep(0.5)
        if left:
            self.problems.append(f"stranded: {left}")

    def check_journal(self) -> None:
        journal = Journal(f"sqlite:///{self.lab.folder / 'state' / 'labd.sqlite3'}")
        snapshots = {each.job.spec.job: each for each in journal.newest_snapshots()}
        self.problems += [f"{job}: lost" for job in self.accepted if job not in snapshots]
        self.verdicts = Counter(str(each.job.verdict) for each in snapshots.values())
        self.attempts = Counter(each.job.attempt for each in snapshots.values())
        self.defects = self.lab.log.read_text(errors="replace").count('"labd-bug"')
        for job, snapshot in snapshots.items():
            events = journal.list_events(job)
            wrong = find_mistake(events, snapshot.job.attempt)
            modes = [r.result.mode for r in snapshot.results if r.attempt == snapshot.job.attempt]
            if snapshot.job.verdict in {"pass", "fail"} and modes != list(snapshot.job.spec.modes):
                wrong = f"results of {modes} for {snapshot.job.spec.modes}"
            if wrong:
                self.problems.append(f"{job}: {wrong}")
        journal.close()


_NEXT = {
    EventType.QUEUED: {EventType.LEASED, EventType.FINISHED},
    EventType.LEASED: {EventType.STARTED, EventType.REQUEUED, EventType.FINISHED},
    EventType.STARTED: {EventType.REQUEUED, EventType.FINISHED},
    EventType.REQUEUED: {EventType.LEASED, EventType.FINISHED},
    EventType.FINISHED: set[EventType](),
}


def find_mistake(events: list[Event], attempts: int) -> str:
    """Return what is wrong with a job's events; empty if nothing is."""
    if [event.seq for event in events] != list(range(len(events))):
        return f"numbers {[event.seq for event in events]}"
    steps = [event.type for event in events if event.type in _NEXT]
    for before, after in itertools.pairwise(steps):
        if after not in _NEXT[before]:
            return f"{after} after {before}"
    if not steps or steps[0] is not EventType.QUEUED or steps[-1] is not EventType.FINISHED:
        return f"begins or ends wrongly: {steps}"
    if steps.count(EventType.STARTED) != attempts:
        return f"{steps.count(EventType.STARTED)} starts, {attempts} attempts"
    return ""


def copy_small_dataset(folder: Path) -> Path:
    """Copy the first images of digits01, so that a job is short."""
    source, target = REPO / "datasets" / "digits01", folder / "digits01"
    target.mkdir(parents=True)
    rows = (source / "y_labels.csv").read_text().splitlines()[:IMAGES]
    (target / "y_labels.csv").write_text("\n".join(rows) + "\n")
    for row in rows:
        name = row.split(",")[0]
        shutil.copy(source / name, target / name)
    return folder


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", nargs="?", type=int, default=40)
    parser.add_argument("--stations", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="keep the lab's files here")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(folder, given.stations, given.seed)
    begin = time.monotonic()
    try:
        await campaign.run(given.kills)
    finally:
        campaign.lab.stop()
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    report = {
        "kills": dict(campaign.kills),
        "accepted": len(campaign.accepted),
        "verdicts": dict(campaign.verdicts),
        "attempts": dict(sorted(campaign.attempts.items())),
        "defects_logged": campaign.defects,
        "seconds": round(time.monotonic() - begin),
        "problems": campaign.problems,
    }
    print(json.dumps(report, indent=1))  # noqa: T201
    return bool(campaign.problems)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
