"""Requests of MQTT clients: each is answered after it was committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from pydantic import JsonValue

from labd.core.errors import JobError, LabdBug, LabdError
from labd.core.jobs import JobSpec
from labd.core.official_sets import unofficial_reason
from labd.core.schedule import StationView, why_no_station
from labd.core.suite import find_benchmark
from labd.daemon.dispatcher import Dispatcher
from labd.daemon.job_firmware import JobFirmware
from labd.daemon.job_log import JobLog
from labd.daemon.status_publisher import StatusPublisher
from labd.mqtt.inbox import Inbox, ReceivedMessage
from labd.procedure.dataset import LABELS, find_dataset
from labd.station.config import LabConfig
from labd.store.journal.journal import Journal
from labd.store.journal.rows import Duplicate
from labd.wire.messages import (
    DEFAULT_CLIENT,
    Cancel,
    JobStatus,
    ListJobs,
    ListStations,
    Pin,
    ReplayEvents,
    Reply,
    Request,
    Submit,
    Unpin,
)
from labd.wire.requests import BadRequest, parse_request
from labd.wire.topics import Topics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RequestHandler:
    """Answers requests.

    Args:
        config: the lab.
        topics: of the lab.
        job_log: holds the jobs; its outbox carries the replies.
        firmware: accepts jobs with their firmware.
        dispatcher: schedules and cancels jobs.
        status: of the stations.
        now_ns: wall clock, ns since the epoch.
        cleared_topics: of retained requests whose clearing has not come back yet.
    """

    config: LabConfig
    topics: Topics
    job_log: JobLog
    firmware: JobFirmware
    dispatcher: Dispatcher
    status: StatusPublisher
    now_ns: Callable[[], int] = time.time_ns
    cleared_topics: set[str] = field(default_factory=set[str])

    async def serve_requests(self, inbox: Inbox) -> None:
        """Answer requests one after the other until cancelled."""
        async for message in inbox:
            try:
                await self.answer_message(message)
            except Exception:  # the top of a message: one must not end the daemon
                log.exception("labd-bug", topic=message.topic)

    async def answer_message(self, message: ReceivedMessage) -> None:
        """Answer one request; a malformed one gets an error reply."""
        if self._clear_retained_request(message):
            return
        try:
            topic = self.topics.parse_topic(message.topic)
        except JobError as error:
            log.warning("bad-topic", error=str(error))
            return
        client, reply = await self._reply_to_payload(topic.user, topic.name, message.payload)
        self.job_log.queue_message(
            self.topics.reply_topic(topic.user, client), reply.to_json_bytes(), retain=False
        )

    def _clear_retained_request(self, message: ReceivedMessage) -> bool:
        """Clear a retained request, which would come again at every connect, without an answer.

        Returns:
            whether the message is one, or the empty message that clears one.
        """
        if message.retained:
            if message.topic not in self.cleared_topics:
                log.warning("retained-request-cleared", topic=message.topic)
            self.cleared_topics.add(message.topic)
            self.job_log.queue_message(message.topic, b"", retain=True)
            return True
        if not message.payload and message.topic in self.cleared_topics:
            self.cleared_topics.discard(message.topic)
            return True
        return False

    async def _reply_to_payload(self, user: str, verb: str, payload: bytes) -> tuple[str, Reply]:
        """Return the client to answer, and its reply."""
        try:
            request = parse_request(verb, payload)
        except BadRequest as error:
            reply = _error_reply(error).model_copy(update={"errors": error.errors})
            client, number = error.client or DEFAULT_CLIENT, error.request
        else:
            reply = self._refuse_expired(request)
            reply = reply or await self._execute_with_error_reply(user, request)
            client, number = request.client, request.request
        return client, reply.model_copy(update={"verb": verb, "request": number})

    def _refuse_expired(self, request: Request) -> Reply | None:
        """Return an error reply to a request that the broker has kept for too long."""
        now_ns = self.now_ns()
        if request.expires_ns is None or now_ns <= request.expires_ns:
            return None
        late_s = (now_ns - request.expires_ns) / 1e9
        text = f"the request expired {late_s:.1f} s before the daemon received it"
        remedy = "send it again; if that fails too, compare the clocks of client and daemon"
        error = JobError("request-expired", text, remedy)
        return _error_reply(error, getattr(request, "job", None) or "")

    async def _execute_with_error_reply(self, user: str, request: Request) -> Reply:
        job = getattr(request, "job", None) or ""
        try:
            return await self._execute_request(user, request)
        except LabdError as error:
            return _error_reply(error, job)
        except Exception as error:  # the top of a request: one must not end the daemon
            log.exception("labd-bug", request=request, job=job)
            return _error_reply(LabdBug("bug", f"a defect of labd: {error!r}"), job)

    async def _execute_request(self, user: str, request: Request) -> Reply:
        match request:
            case Submit():
                return await self._submit_job(request.to_job_spec(user))
            case Cancel():
                return await self._cancel_job(user, request)
            case Pin():
                return await self._pin_job(user, request)
            case Unpin():
                return await self._unpin_job(user, request)
            case ListJobs():
                return await self._list_jobs(request)
            case ListStations():
                stations = self.status.station_statuses()
                return _success_reply("", result=[s.model_dump(mode="json") for s in stations])
            case ReplayEvents():
                return await self._replay_events(request)

    async def _submit_job(self, spec: JobSpec) -> Reply:
        warning = ""
        if await self.job_log.query_journal(Journal.find_job, spec.job) is None:
            views = self.dispatcher.station_views()
            warning = await asyncio.to_thread(check_feasible, spec, views, self.config)
        change = await self.firmware.accept_job(spec, self.dispatcher.station_views())
        self.dispatcher.request_planning()
        if isinstance(change, Duplicate):
            state = change.job.verdict or change.job.state
            text = f"this job was submitted before; it is {state}"
            return _success_reply(text, spec.job, code="duplicate")
        return _success_reply(f"queued; {warning}" if warning else "queued", spec.job)

    async def _cancel_job(self, user: str, request: Cancel) -> Reply:
        await self.job_log.cancel_job(request.job, user, request.reason)
        running = self.dispatcher.cancel_running_attempt(request.job)
        self.dispatcher.request_planning()
        return _success_reply("stopping" if running else "cancelled", request.job)

    async def _pin_job(self, user: str, request: Pin) -> Reply:
        await self.job_log.pin_files(request.job, user)
        status = await self._require_job_status(request.job)
        gone = f"; those of {_format_attempts(status.removed)} are gone" if status.removed else ""
        return _success_reply(f"its traces stay{gone}", request.job)

    async def _unpin_job(self, user: str, request: Unpin) -> Reply:
        await self.job_log.unpin_files(request.job, user)
        return _success_reply("its traces may go by the lab's limits", request.job)

    async def _list_jobs(self, request: ListJobs) -> Reply:
        if request.job is not None:
            found, total = [await self._require_job_status(request.job)], 1
        else:
            found, total = await self.job_log.list_job_statuses(request)
        reply = _success_reply("", result=[status.model_dump(mode="json") for status in found])
        return reply.model_copy(update={"total": total})

    async def _require_job_status(self, job: str) -> JobStatus:
        status = await self.job_log.job_status(job)
        if status is None:
            raise JobError("no-such-job", f"there is no job {job}", "labctl jobs lists them")
        return status

    async def _replay_events(self, request: ReplayEvents) -> Reply:
        await self._require_job_status(request.job)
        events = await self.job_log.query_journal(
            Journal.list_events, request.job, request.from_seq, request.limit
        )
        return _success_reply("", request.job, [event.model_dump(mode="json") for event in events])


def _format_attempts(numbers: Sequence[int]) -> str:
    return f"attempt{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _success_reply(text: str, job: str = "", result: JsonValue = None, code: str = "ok") -> Reply:
    return Reply(ok=True, request=None, verb="", job=job, code=code, text=text, result=result)


def _error_reply(error: LabdError, job: str = "") -> Reply:
    return Reply(ok=False, request=None, verb="", job=job, code=error.code, text=str(error))


def check_feasible(spec: JobSpec, views: Sequence[StationView], config: LabConfig) -> str:
    """Refuse a job that no station can ever run; return why it cannot pass, or ``""``.

    Raises:
        JobError: unknown benchmark or station, a missing or damaged data set, or no suitable
            station.
    """
    entry = find_benchmark(spec.benchmark)
    reason = why_no_station(spec, views)
    if reason:
        raise JobError("no-station", f"no station can run this job: {reason}")
    dataset = find_dataset(config.datasets, entry, spec.modes, spec.labels or LABELS)
    return unofficial_reason(entry, dataset.judgement, custom_data=spec.custom_data)
