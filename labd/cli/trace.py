"""labctl trace: the power of a job while it is measured."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import click
import numpy as np
from numpy.typing import NDArray

from labd.cli.lab_command import with_client
from labd.cli.options import json_option
from labd.cli.terminal import print_line
from labd.client.lab_client import LabClient
from labd.core.errors import JobError
from labd.core.jobs import JobState
from labd.wire.frames import Frame

BARS = " ▁▂▃▄▅▆▇█"
COLUMNS = 40
LINE_S = 1.0


@click.command("trace")
@click.argument("job")
@json_option
@with_client
async def trace_command(client: LabClient, job: str, as_json: bool) -> int:
    """Show the power of a JOB while it is measured.

    Prints one line per second, or with --json every frame as one JSON object.
    """
    status = await client.find_job(job)
    if status.state is JobState.DONE:
        raise JobError(
            "job-done",
            f"job {job} has ended: nothing is being measured",
            f"`labd export {job} --format csv`, on the bench's host, reads its trace",
        )
    printing = asyncio.create_task(_print_frames(client, job, as_json=as_json))
    ending = asyncio.create_task(_wait_for_job_end(client, job))
    try:
        done, _ = await asyncio.wait({printing, ending}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (printing, ending):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
    return 0


async def _wait_for_job_end(client: LabClient, job: str) -> None:
    async for _ in client.follow_events(job):
        pass


async def _print_frames(client: LabClient, job: str, *, as_json: bool) -> None:
    lines = PowerLines()
    async for frame in client.follow_trace_frames(job):
        if as_json:
            print_line(format_frame_json(frame))
        else:
            for line in lines.add_frame(frame):
                print_line(line)


def format_frame_json(frame: Frame) -> str:
    """Return a frame as one line of JSON; lost points are null."""
    points = [[None if np.isnan(each) else float(each) for each in point] for point in frame.points]
    return json.dumps(
        {
            "attempt": frame.attempt,
            "trace": frame.trace,
            "number": frame.number,
            "last": frame.last,
            "first": frame.first,
            "stop": frame.stop,
            "samples_per_point": frame.samples_per_point,
            "sample_rate_hz": frame.sample_rate_hz,
            "points_w": points,
        }
    )


class PowerLines:
    """Frames as text, one line per second; full scale is the highest mean so far."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._highest = 0.0

    def add_frame(self, frame: Frame) -> list[str]:
        """Take a frame and return the lines that it completes."""
        lines: list[str] = []
        if self._frames and frame.first != self._frames[-1].stop:
            lines += self._format_line()
        if len(frame.points):
            self._frames.append(frame)
        covered = sum(each.stop - each.first for each in self._frames)
        if frame.last or covered >= LINE_S * frame.sample_rate_hz:
            lines += self._format_line()
        return lines

    def _format_line(self) -> list[str]:
        if not self._frames:
            return []
        first = self._frames[0]
        points = np.concatenate([frame.points for frame in self._frames]).astype(np.float64) * 1e3
        self._frames = []
        start_s = first.first / first.sample_rate_hz
        if np.isnan(points).all():
            return [f"{start_s:9.1f} s  {'':{COLUMNS}}  nothing but lost samples"]
        bars = self._format_bars(points[:, 1])
        low, mean, high = np.nanmin(points[:, 0]), np.nanmean(points[:, 1]), np.nanmax(points[:, 2])
        return [f"{start_s:9.1f} s  {bars:{COLUMNS}}  {low:.4g} … {mean:.4g} … {high:.4g} mW"]

    def _format_bars(self, means: NDArray[np.float64]) -> str:
        """Draw means as bars; a lost one is blank."""
        columns = np.array_split(means, min(COLUMNS, len(means)))
        heights = [np.nan if np.isnan(some).all() else float(np.nanmean(some)) for some in columns]
        self._highest = max(self._highest, float(np.nanmax(heights)))
        scale = (len(BARS) - 2) / self._highest if self._highest > 0 else 0.0
        return "".join(
            BARS[0] if np.isnan(each) else BARS[1 + round(max(0.0, each) * scale)]
            for each in heights
        )
