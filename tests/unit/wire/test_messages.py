from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from labd.core.jobs import JobState
from labd.core.model import Mode, Priority, Verdict
from labd.wire.job_events import EVENT, Note, NoteEvent
from labd.wire.messages import (
    JobStatus,
    ModeSummary,
    Reply,
)
from labd.wire.validation import Mistake


def test_a_state_survives_the_wire() -> None:
    status = JobStatus(
        job="j",
        user="ann",
        benchmark="kws01",
        modes=(Mode.ENERGY,),
        priority=Priority.NORMAL,
        state=JobState.DONE,
        verdict=Verdict.PASS,
        submitted_ns=1,
        updated_ns=2**62,
        next_seq=9,
        results=(
            ModeSummary(mode=Mode.ENERGY, attempt=1, verdict=Verdict.PASS, score={"uj": 12.5}),
        ),
    )
    assert JobStatus.model_validate_json(status.to_json_bytes()) == status


def test_a_client_ignores_what_a_newer_lab_adds() -> None:
    event = NoteEvent(job="j", seq=0, t_ns=1, data=Note(text="x"))
    newer = json.loads(event.to_json_bytes()) | {"mood": "good"}
    newer["data"]["colour"] = "red"
    assert EVENT.validate_python(newer) == event


def test_a_silent_number_cannot_be_sent() -> None:
    with pytest.raises(ValidationError, match="finite"):
        ModeSummary(mode=Mode.ENERGY, attempt=1, verdict=Verdict.PASS, score={"uj": float("nan")})


def test_a_reply_lists_its_errors() -> None:
    mistake = Mistake(at="modes[0]", text="'x' is not one of a", allowed=("a",))
    reply = Reply(ok=False, request="r", verb="submit", code="bad-request", errors=(mistake,))
    assert json.loads(reply.to_json_bytes())["errors"] == [
        {"at": "modes[0]", "text": "'x' is not one of a", "allowed": ["a"]}
    ]


def test_the_client_side_stays_cheap_to_import() -> None:
    heavy = ["numpy", "sqlalchemy", "structlog", "sklearn", "serialx"]
    code = (
        "import sys, labd.mqtt.link, labd.wire.requests, labd.wire.messages;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"
