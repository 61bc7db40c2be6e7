"""The composition root: the parts of a daemon, and the order in which they start and end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from drivers.base.registry import Registry
from labd import __version__
from labd.core.errors import ConfigError, LabdError
from labd.core.jobs import JobSpec
from labd.core.schedule import has_alternative
from labd.daemon.background_tasks import BackgroundTasks, StopRequestedError, stop_on_signals
from labd.daemon.broker_access import Probe, check_broker_access
from labd.daemon.dispatcher import Dispatcher
from labd.daemon.emulated_benches import EmulatedBench, describe_emulated_station
from labd.daemon.job_firmware import JobFirmware
from labd.daemon.job_log import JobLog
from labd.daemon.lab_claim import LabClaimant, new_instance, open_claimant
from labd.daemon.queue_expiry import QueueExpiry
from labd.daemon.recovery import requeue_abandoned_jobs
from labd.daemon.request_handler import RequestHandler
from labd.daemon.run_recorder import RunEvidence
from labd.daemon.station_runner import StationRunner
from labd.daemon.status_publisher import StatusPublisher
from labd.daemon.supervisor import Supervisor
from labd.daemon.trace_cleanup import TraceCleanup
from labd.daemon.trace_writer import LiveFrames
from labd.mqtt.broker import EmbeddedBroker
from labd.mqtt.inbox import Inbox
from labd.mqtt.link import MqttLink, Will
from labd.station.config import LabConfig, StationConfig
from labd.store.firmware_store import FirmwareStore
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.journal import Journal
from labd.store.state_directory import StateDirectory
from labd.wire.messages import DaemonStatus
from labd.wire.topics import Kind, Topics, to_topic_level

log = structlog.get_logger(__name__)

DAEMON_USER = "labd"
"""User of the daemon's own messages when it checks its rights on the broker."""

FLUSH_DEADLINE_S = 5.0
BROKER_RESTART_S = 1.0
BENCH_RESTART_S = 2.0


async def serve_lab(
    config: LabConfig,
    registry: Registry,
    ready: Callable[[str], None],
    *,
    take_over: bool = False,
) -> None:
    """Serve a lab until SIGTERM or SIGINT.

    Args:
        config: the lab.
        registry: the installed drivers.
        ready: called with the broker's URL once requests are answered.
        take_over: serve the lab although another journal holds its jobs.

    Raises:
        ConfigError: the configuration cannot work on this host, or another daemon serves the lab.
        TransportError: the broker cannot be reached.
    """
    stop = stop_on_signals()
    state = StateDirectory(config.state)
    async with AsyncExitStack() as stack:
        stack.enter_context(state.hold_lock())
        journal = await stack.enter_async_context(AsyncJournal(state.journal_url))
        tasks = BackgroundTasks(stack, stop)
        try:
            status = _starting_status(config.state, await journal(Journal.journal_id))
            daemon = Daemon(config, registry, state, journal, status)
            await daemon.start_and_serve(stack, tasks, ready, take_over=take_over)
        except StopRequestedError:
            log.info("stopping")


class Daemon:
    """The parts of one labd.

    Args:
        config: the lab.
        registry: the installed drivers.
        state: locked.
        journal: open.
        status: of this process.
    """

    def __init__(
        self,
        config: LabConfig,
        registry: Registry,
        state: StateDirectory,
        journal: AsyncJournal,
        status: DaemonStatus,
    ) -> None:
        self._config = config
        self._registry = registry
        self._state = state
        self._topics = Topics(config.name)
        self._job_log = JobLog(self._topics, journal, time.time_ns)
        self._store = FirmwareStore(state.firmware_directory)
        self._firmware = JobFirmware(config, self._job_log, self._store)
        self._frames = LiveFrames()
        self._supervisors = {each.name: self._make_supervisor(each) for each in config.stations}
        self._dispatcher = Dispatcher(self._job_log, self._supervisors)
        self._status = StatusPublisher(
            status, self._topics, self._job_log, self._supervisors, time.time_ns
        )
        self._requests = RequestHandler(
            config, self._topics, self._job_log, self._firmware, self._dispatcher, self._status
        )
        self._cleanup = TraceCleanup(
            self._job_log, state.traces_directory, config.keep, time.time_ns
        )

    async def start_and_serve(
        self,
        stack: AsyncExitStack,
        tasks: BackgroundTasks,
        ready: Callable[[str], None],
        *,
        take_over: bool,
    ) -> None:
        """Start the parts in order; the stack ends them in the reverse order."""
        url = await self._start_broker(tasks)
        claimant = await stack.enter_async_context(
            open_claimant(
                url,
                self._topics,
                self._status.daemon_status("online"),
                take_over=take_over or self._config.broker.url is None,
            )
        )
        claiming = asyncio.create_task(claimant.claim())
        stack.callback(claiming.cancel)
        await self._start_benches(tasks)
        await tasks.wait_unless_stopped(claiming)
        link, inbox = await stack.enter_async_context(self._connect_to_broker(url, claimant))
        await self._job_log.queue_unpublished_events()
        await requeue_abandoned_jobs(self._job_log, "labd was restarted")
        await stack.enter_async_context(self._publish_outbox_and_frames(link, tasks))
        stack.push_async_callback(self._requeue_leased_jobs)
        await tasks.start_task(self._cleanup.clean_up_periodically())
        await tasks.start_task(self._firmware.sweep_periodically())
        expiry = QueueExpiry(self._job_log, self._config.expire_after_s, time.time_ns)
        await tasks.start_task(expiry.expire_periodically())
        await tasks.start_task(self._serve_requests_and_stations(inbox))
        self._status.publish_daemon("online")
        self._dispatcher.request_planning()
        await tasks.wait_unless_stopped(
            check_broker_access(link, self._topics.lab, self._access_probes())
        )
        ready(url)
        await tasks.wait_unless_stopped(asyncio.Event().wait())

    async def _start_broker(self, tasks: BackgroundTasks) -> str:
        """Return the URL of the configured broker, or of an embedded one that is kept running."""
        if self._config.broker.url:
            return self._config.broker.url
        broker = EmbeddedBroker(self._state.broker_directory, self._config.broker.port)
        started = await tasks.start_restarted_process(broker.run_until_ended, BROKER_RESTART_S)
        await tasks.wait_unless_stopped(started.wait())
        return broker.url

    async def _start_benches(self, tasks: BackgroundTasks) -> None:
        """Start a process per emulated station, all at once, and wait until they are ready."""
        started: list[asyncio.Event] = []
        for station in self._config.stations:
            if station.emulated is not None:
                emulated = describe_emulated_station(self._config, station)
                check = self._supervisors[station.name].request_check
                recheck = partial(check, "its bench was restarted")
                bench = EmulatedBench(self._config.bench_directory, emulated, recheck)
                started.append(
                    await tasks.start_restarted_process(
                        bench.run_process, BENCH_RESTART_S, fatal=ConfigError
                    )
                )
        for each in started:
            await tasks.wait_unless_stopped(each.wait())

    @asynccontextmanager
    async def _connect_to_broker(
        self, url: str, claimant: LabClaimant
    ) -> AsyncGenerator[tuple[MqttLink, Inbox]]:
        """Connect to the broker, which keeps requests while the daemon is away."""
        offline = self._status.daemon_status("offline")
        will = Will(self._topics.daemon_topic(offline.host), offline.to_json_bytes())
        link = MqttLink(url, f"labd-{self._config.name}", will=will, persistent=True)
        link.before_reconnect = claimant.claim
        inbox = link.add_subscription(self._topics.subscription_filter(Kind.COMMAND))
        async with link:
            link.on_connect.append(self._status.republish_retained)
            yield link, inbox

    @asynccontextmanager
    async def _publish_outbox_and_frames(
        self, link: MqttLink, tasks: BackgroundTasks
    ) -> AsyncGenerator[None]:
        """Publish the outbox; on exit publish "offline" and flush the outbox."""
        await tasks.start_task(self._job_log.publish_outbox(link))
        await tasks.start_task(self._job_log.record_published_events())
        await tasks.start_task(self._frames.publish_frames(link))
        try:
            yield
        finally:
            self._status.publish_daemon("offline")
            if not await self._job_log.wait_until_published(FLUSH_DEADLINE_S):
                log.warning("outbox-not-flushed", deadline_s=FLUSH_DEADLINE_S)
            await self._job_log.record_published_now()

    def _access_probes(self) -> list[Probe]:
        """Return messages of every kind that the daemon cannot do without.

        Their user is the daemon itself, which nobody waits for.
        """
        topics, status = self._topics, self._status.daemon_status("online")
        request = {"client": status.instance, "request": status.instance}
        reply_topic = topics.reply_topic(DAEMON_USER, f"{status.instance}-probe")
        return [
            Probe(
                "requests",
                topics.command_topic(DAEMON_USER, "stations"),
                topics.subscription_filter(Kind.COMMAND),
                json.dumps(request).encode(),
            ),
            Probe("replies", reply_topic, reply_topic, b"{}"),
            Probe(
                "daemon state",
                topics.daemon_topic(status.host),
                topics.subscription_filter(Kind.DAEMON),
                status.to_json_bytes(),
                retain=True,
            ),
            *(
                Probe(
                    "station state",
                    topics.station_topic(station.station),
                    topics.station_topic(station.station),
                    station.to_json_bytes(),
                    retain=True,
                )
                for station in self._status.station_statuses()[:1]
            ),
        ]

    async def _requeue_leased_jobs(self) -> None:
        """Queue the jobs again that were leased but not started when the daemon was stopped."""
        try:
            await requeue_abandoned_jobs(self._job_log, "labd was stopped")
        except LabdError as error:
            log.warning("not-requeued", error=str(error))  # the next start does it

    async def _serve_requests_and_stations(self, inbox: Inbox) -> None:
        """Answer requests, dispatch jobs and run stations until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._requests.serve_requests(inbox), name="request handler")
            group.create_task(self._dispatcher.plan_after_changes(), name="dispatcher")
            for supervisor in self._supervisors.values():
                group.create_task(supervisor.check_and_run_jobs(), name=supervisor.name)

    def _make_supervisor(self, station: StationConfig) -> Supervisor:
        runner = StationRunner(self._config, station, self._registry, self._store)
        return Supervisor(
            station,
            runner,
            self._job_log,
            self._make_evidence_writer,
            self._has_alternative,
            self._on_station_change,
        )

    def _make_evidence_writer(self, job: str, attempt: int) -> RunEvidence:
        send = partial(self._frames.queue_frame, self._topics.trace_topic(job))
        return RunEvidence(self._state.traces_of_attempt(job, attempt), attempt, send)

    def _has_alternative(self, spec: JobSpec, station: str) -> bool:
        """Return whether a job could run on another station than this one."""
        return has_alternative(spec, station, self._dispatcher.station_views())

    def _on_station_change(self, supervisor: Supervisor) -> None:
        self._status.publish_station(supervisor)
        self._dispatcher.request_planning()


def _starting_status(state_directory: Path, journal: str) -> DaemonStatus:
    """Return the status of this process."""
    return DaemonStatus(
        host=to_topic_level(socket.gethostname()),
        state="online",
        version=__version__,
        since_ns=time.time_ns(),
        pid=os.getpid(),
        instance=new_instance(),
        state_directory=str(state_directory),
        journal=journal,
    )
