"""Which window of a mode is measured next, with how many inferences, and which windows count.

A window whose only fault is that it is too short is kept, but does not count: N is scaled by
what was measured, and the window is repeated on the same input. All counted windows of a mode
have the same N where the repeats suffice, because both published runners send one N in a
session (EEMBC's "iterations"; ``infer N`` in the MLCommons runner's tests_*.yaml). Nothing else
is repeated: a window with another fault counts and makes the run invalid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labd.core.errors import MeasurementInvalid
from labd.core.model import Window
from labd.core.suite import MIN_WINDOW_S
from labd.core.windows import Batch, inferences_for_window, is_too_short

MAX_WINDOW_REPEATS = 3
"""Repeats of one window. A speed that changes by 5 % between two batches every time is not
stable enough for a number."""

MAX_MODE_REPEATS = 10
"""Repeats of all windows of a mode: enough for five inputs of which each is faster than the
one before (four repeats), with the first four measured again for one N."""


@dataclass(frozen=True, slots=True)
class _PlannedBatch:
    """A batch and the position of its input among the files."""

    slot: int
    batch: Batch


class WindowPlan:
    """The windows of one mode: one counted window per input file.

    Args:
        files: the inputs, in order.
        planned_s: length that windows are planned for.

    Attributes:
        inferences: N of the next batch.
        problems: why the plan was abandoned, for the result's reasons.
    """

    def __init__(self, files: Sequence[str], planned_s: float) -> None:
        self._files = files
        self._planned_s = planned_s
        self._batches: list[_PlannedBatch] = []
        self._measured: dict[int, Window] = {}
        self._not_counted: dict[int, str] = {}
        self._seeks_one_n = True
        self.inferences = 0
        self.problems: list[str] = []

    def choose_inferences(self, inference_s: float) -> None:
        """Choose N by the seconds per inference.

        Raises:
            MeasurementInvalid: an inference is too short for the protocol.
        """
        self.inferences = inferences_for_window(1, inference_s, self._planned_s)

    @property
    def all_windows(self) -> list[Window]:
        """All windows in the order of measuring, counted or not."""
        return [self._with_mark(number) for number in sorted(self._measured)]

    @property
    def counted_windows(self) -> list[Window]:
        """The windows that score and verdict rest on."""
        return [window for window in self.all_windows if window.is_counted]

    @property
    def finished_inputs(self) -> int:
        """Number of inputs with a batch that counts so far."""
        return len(self._counted_batches())

    def next_batch(self) -> Batch | None:
        """Return the next batch; ``None`` when the mode is complete or the plan abandoned."""
        slot = None if self.problems else self._next_slot()
        if slot is None:
            return None
        batch = Batch(len(self._batches) + 1, self._files[slot], self.inferences)
        self._batches.append(_PlannedBatch(slot, batch))
        return batch

    def add_window(self, window: Window) -> list[Window]:
        """Add the window of a batch, or its final form; return every window that changed."""
        number = window.number
        is_final_form = number in self._measured
        self._measured[number] = window
        replaced: list[int] = []
        if not is_final_form:
            if is_too_short(window):
                self._request_repeat(window)
            else:
                replaced = self._replace_earlier(window)
        return [self._with_mark(each) for each in (*replaced, number)]

    def _next_slot(self) -> int | None:
        """Return the first input from the last one on that has no counted batch.

        When all have one, those with fewer inferences than N are measured again, unless a
        window is invalid: a repeat must not remove it from the result.
        """
        latest = self._batches[-1].slot if self._batches else 0
        order = [*range(latest, len(self._files)), *range(latest)]
        counting = self._counted_batches()
        wanted = [slot for slot in order if slot not in counting]
        seeks_one_n = self._seeks_one_n and self._repeat_count < MAX_MODE_REPEATS
        if not wanted and seeks_one_n and all(window.valid for window in self.counted_windows):
            wanted = [s for s in order if counting[s].batch.inferences < self.inferences]
        return wanted[0] if wanted else None

    def _counted_batches(self) -> dict[int, _PlannedBatch]:
        """Return the latest batch of each input, without those that do not count."""
        return {
            planned.slot: planned
            for planned in self._batches
            if planned.batch.number not in self._not_counted
        }

    @property
    def _repeat_count(self) -> int:
        return len(self._batches) - len({planned.slot for planned in self._batches})

    def _with_mark(self, number: int) -> Window:
        return replace(self._measured[number], not_counted=self._not_counted.get(number, ""))

    def _earlier_windows_of_input(self, window: Window) -> list[Window]:
        """Return the windows of the same input that were measured before."""
        slot = self._batches[window.number - 1].slot
        return [
            self._measured[planned.batch.number]
            for planned in self._batches[: window.number - 1]
            if planned.slot == slot and planned.batch.number in self._measured
        ]

    def _request_repeat(self, window: Window) -> None:
        """Raise N and do not count this window, unless the repeats are used up."""
        earlier = self._earlier_windows_of_input(window)
        if len(earlier) >= MAX_WINDOW_REPEATS or self._repeat_count >= MAX_MODE_REPEATS:
            self._give_up(window, earlier)
            return
        try:
            scaled = inferences_for_window(window.inferences, window.runtime_s, self._planned_s)
        except MeasurementInvalid as error:
            self.problems.append(error.what)
            return
        self.inferences = max(self.inferences, scaled)
        reason = f"too short: repeated with {self.inferences} inferences"
        self._not_counted[window.number] = reason

    def _give_up(self, window: Window, earlier: Sequence[Window]) -> None:
        """End the repeats: keep the earlier window that counts, or abandon the plan."""
        counted = [each.number for each in earlier if self._is_counted(each)]
        if counted:
            self._seeks_one_n = False
            self._not_counted[window.number] = f"too short: window {counted[0]} counts instead"
        else:
            self.problems.append(_attempts_text([*earlier, window], self._repeat_count))

    def _replace_earlier(self, window: Window) -> list[int]:
        """Do not count an earlier window of this input, which had fewer inferences."""
        replaced = [
            each.number for each in self._earlier_windows_of_input(window) if self._is_counted(each)
        ]
        for number in replaced:
            self._not_counted[number] = (
                f"measured again as window {window.number}, for {window.inferences} inferences in "
                "every counted window"
            )
        return replaced

    def _is_counted(self, window: Window) -> bool:
        return window.number not in self._not_counted


def is_rightly_left_out(window: Window, windows: Sequence[Window]) -> bool:
    """Whether the rules of this module let a window not count, among all windows of its mode."""
    return window.runtime_s < MIN_WINDOW_S or any(
        later.number > window.number
        and later.is_counted
        and later.input_file == window.input_file
        and later.inferences > window.inferences
        for later in windows
    )


def _attempts_text(tried: Sequence[Window], repeats: int) -> str:
    """Return what was tried with a window that stays too short."""
    batches = ", ".join(f"{each.inferences} in {each.runtime_s:.3f} s" for each in tried)
    return (
        f"{tried[-1].input_file} gave no window that is long enough, after {len(tried) - 1} "
        f"repeats of it and {repeats} in this mode: {batches}; the DUT's speed is not stable"
    )
