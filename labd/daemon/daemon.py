"""The composition root: everything a daemon is made of, put together and taken down in order."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import structlog

from drivers.base.registry import Registry
from labd import __version__
from labd.aio.shielded import wait_shielded
from labd.core.errors import LabdError
from labd.core.jobs import MAX_ATTEMPTS
from labd.core.model import Verdict
from labd.daemon.dispatcher import Dispatcher
from labd.daemon.emulated_benches import EmulatedBench, bench_command, emulated_station
from labd.daemon.job_log import JobLog
from labd.daemon.request_handler import RequestHandler
from labd.daemon.run_recorder import RunEvidence
from labd.daemon.station_runner import StationRunner
from labd.daemon.supervisor import Supervisor
from labd.daemon.trace_cleanup import TraceCleanup
from labd.daemon.trace_writer import LiveFrames
from labd.mqtt.broker import EmbeddedBroker
from labd.mqtt.inbox import Inbox
from labd.mqtt.link import Bus, Will
from labd.station.config import LabConfig, StationConfig
from labd.store.journal.rows import Outcome
from labd.store.state_directory import StateDirectory
from labd.wire.messages import DaemonStatus, PartIdentity, StationStatus
from labd.wire.topics import Kind, Topics, as_name

log = structlog.get_logger(__name__)

FLUSH_DEADLINE_S = 5.0
BROKER_RESTART_S = 1.0


class Daemon:
    """One labd.

    Args:
        config: the lab, with the emulated stations' ports filled in.
        registry: the drivers there are.
    """

    def __init__(self, config: LabConfig, registry: Registry) -> None:
        self._config = config
        self._registry = registry
        self._host = as_name(socket.gethostname())
        self._since_ns = time.time_ns()
        self._topics = Topics(config.name)
        self._state = StateDirectory(config.state)
        self._job_log = JobLog(self._topics, time.time_ns)
        self._frames = LiveFrames()
        self._supervisors = {station.name: self._supervisor(station) for station in config.stations}
        self._dispatcher = Dispatcher(self._job_log, self._supervisors)

    async def serve(self, ready: Callable[[str], None]) -> None:
        """Run until SIGTERM or SIGINT, then take everything down.

        Args:
            ready: called with the broker's URL once commands are answered.

        Raises:
            ConfigError: something in the configuration cannot work here.
            TransportError: the broker cannot be reached.
        """
        stop = _stop_signal()
        async with AsyncExitStack() as stack:
            stack.enter_context(self._state.lock())
            await stack.enter_async_context(self._job_log.journal(self._state.journal_url))
            tasks = BackgroundTasks(stack, stop)
            try:
                await self._serve(stack, tasks, ready)
            except StopRequestedError:
                log.info("stopping")

    async def _serve(
        self, stack: AsyncExitStack, tasks: BackgroundTasks, ready: Callable[[str], None]
    ) -> None:
        """Start everything in order; what was started is ended in reverse by the stack."""
        url = await self._start_broker(tasks)
        await self._start_benches(tasks)
        bus, inbox = await stack.enter_async_context(self._bus(url))
        await self._recover()
        await stack.enter_async_context(self._telling(bus, tasks))
        cleanup = TraceCleanup(
            self._job_log, self._state.all_traces, self._config.keep, time.time_ns
        )
        await tasks.start(cleanup.run())
        await tasks.start(self._work(inbox))
        self._say_state("online")
        self._dispatcher.wake()
        ready(url)
        await tasks.wait_for(asyncio.Event().wait())

    # ---- parts of serve ------------------------------------------------------------------

    async def _start_broker(self, tasks: BackgroundTasks) -> str:
        """The configured broker's URL, or that of an embedded one kept running."""
        if self._config.broker.url:
            return self._config.broker.url
        broker = EmbeddedBroker(self._state.broker, self._config.broker.port)
        started = asyncio.Event()
        await tasks.start(_keep_broker(broker, started))
        await tasks.wait_for(started.wait())
        return broker.url

    async def _start_benches(self, tasks: BackgroundTasks) -> None:
        """The emulated stations' processes, all at once."""
        started: list[asyncio.Event] = []
        for station in self._config.stations:
            if station.emulated is None:
                continue
            started.append(asyncio.Event())
            emulated = emulated_station(self._config, station)
            bench = EmulatedBench(bench_command(self._config.bench, [emulated]), self._check_all)
            await tasks.start(bench.run(started[-1]))
        for each in started:
            await tasks.wait_for(each.wait())

    @asynccontextmanager
    async def _bus(self, url: str) -> AsyncGenerator[tuple[Bus, Inbox]]:
        """The link to the broker, and the commands that come over it.

        The broker keeps commands while the daemon is away, and its last will says so.
        """
        will = Will(self._topics.daemon(self._host), self._status("offline").payload())
        name = f"labd-{self._config.name}-{self._host}"
        bus = Bus(url, name, will=will, persistent=True)
        inbox = bus.listen(self._topics.every(Kind.COMMAND))
        async with bus:
            bus.on_connect.append(self._say_everything)
            yield bus, inbox

    @asynccontextmanager
    async def _telling(self, bus: Bus, tasks: BackgroundTasks) -> AsyncGenerator[None]:
        """Deliver the outbox; at the end say goodbye and wait until all is told."""
        await tasks.start(self._job_log.deliver(bus))
        await tasks.start(self._frames.deliver(bus))
        try:
            yield
        finally:
            self._say_state("offline")
            if not await self._job_log.flush(FLUSH_DEADLINE_S):
                log.warning("not-everything-told", why="the broker is away")

    async def _work(self, inbox: Inbox) -> None:
        """Answer commands, dispatch jobs, run stations, for ever."""
        async with asyncio.TaskGroup() as tasks:
            handler = RequestHandler(
                self._config,
                self._topics,
                self._job_log,
                self._stations,
                self._dispatcher.views,
                self._give_up,
                self._dispatcher.wake,
            )
            tasks.create_task(handler.serve(inbox), name="handler")
            tasks.create_task(self._dispatcher.dispatch(), name="dispatcher")
            for supervisor in self._supervisors.values():
                tasks.create_task(supervisor.supervise(), name=supervisor.name)

    async def _recover(self) -> None:
        """Put jobs that a dead daemon left behind back into the queue."""
        for job in await self._job_log.busy_jobs():
            reason = f"labd was restarted while it was {job.state} on {job.station}"
            log.info("recovering", job=job.spec.job, reason=reason)
            if job.attempt < MAX_ATTEMPTS or job.cancel_requested:
                await self._job_log.requeue(job.spec.job, reason, Outcome.INTERRUPTED)
            else:
                await self._job_log.finish(job.spec.job, Verdict.INFRA, reason)

    # ---- stations ------------------------------------------------------------------------

    def _supervisor(self, station: StationConfig) -> Supervisor:
        return Supervisor(
            name=station.name,
            parts=frozenset(station.parts),
            work=StationRunner(self._config, station, self._registry),
            job_log=self._job_log,
            evidence=self._evidence,
            changed=self._station_changed,
            sees_timestamps=station.sees_timestamps,
        )

    def _evidence(self, job: str, attempt: int) -> RunEvidence:
        send = partial(self._frames.send, self._topics.trace(job))
        return RunEvidence(self._state.traces(job, attempt), attempt, send)

    def _station_changed(self, supervisor: Supervisor) -> None:
        self._say_station(supervisor)
        self._dispatcher.wake()

    def _check_all(self) -> None:
        for supervisor in self._supervisors.values():
            supervisor.request_check()

    def _give_up(self, job: str) -> bool:
        return any(supervisor.cancel(job) for supervisor in self._supervisors.values())

    def _stations(self) -> list[StationStatus]:
        return [self._station_status(s) for s in self._supervisors.values()]

    def _station_status(self, supervisor: Supervisor) -> StationStatus:
        station = self._config.station(supervisor.name)
        return StationStatus(
            station=supervisor.name,
            host=self._host,
            board=station.board,
            health=supervisor.health,
            activity=supervisor.activity,
            job=supervisor.job,
            why=supervisor.why,
            parts={part: config.driver for part, config in station.parts.items()},
            simulated=supervisor.simulated or station.emulated is not None,
            identities={
                part: PartIdentity(**asdict(who)) for part, who in supervisor.identities.items()
            },
            updated_ns=time.time_ns(),
        )

    # ---- what is said --------------------------------------------------------------------

    def _status(self, state: str) -> DaemonStatus:
        return DaemonStatus.model_validate(
            {
                "host": self._host,
                "state": state,
                "version": __version__,
                "since_ns": self._since_ns,
            }
        )

    def _say_state(self, state: str) -> None:
        payload = self._status(state).payload()
        self._job_log.publish(self._topics.daemon(self._host), payload, retain=True)

    def _say_station(self, supervisor: Supervisor) -> None:
        payload = self._station_status(supervisor).payload()
        self._job_log.publish(self._topics.station(supervisor.name), payload, retain=True)

    async def _say_everything(self) -> None:
        """After the broker was away: it may have forgotten what was retained."""
        self._say_state("online")
        for supervisor in self._supervisors.values():
            self._say_station(supervisor)
        await self._job_log.publish_recent_states()


class StopRequestedError(Exception):
    """SIGTERM or SIGINT came."""


class BackgroundTasks:
    """Tasks that must run as long as the daemon does; each ends with the stack.

    Args:
        stack: ends them, the last started first.
        stop: set when the daemon shall end.
    """

    def __init__(self, stack: AsyncExitStack, stop: asyncio.Event) -> None:
        self._stack = stack
        self._stop = stop
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work until the stack ends it."""
        task = await self._stack.enter_async_context(_background(work))
        self._tasks.append(task)

    async def wait_for(self, wanted: Coroutine[Any, Any, Any]) -> None:
        """Wait for something.

        Raises:
            StopRequestedError: the daemon shall end.
            Exception: that with which one of the tasks failed.
        """
        waiting = asyncio.create_task(wanted)
        stopping = asyncio.create_task(self._stop.wait())
        try:
            every = {waiting, stopping, *self._tasks}
            await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
            if self._stop.is_set():
                raise StopRequestedError
        finally:
            waiting.cancel()
            stopping.cancel()


async def _keep_broker(broker: EmbeddedBroker, started: asyncio.Event) -> None:
    """Run the embedded broker; one that dies is started again, a first start must succeed."""
    while True:
        try:
            async with broker:
                started.set()
                await broker.run()
        except LabdError as error:
            if not started.is_set():
                raise
            log.warning("broker-died", error=str(error))
        await asyncio.sleep(BROKER_RESTART_S)


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncGenerator[asyncio.Task[None]]:
    """Run work beside the body and end it with the body."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await wait_shielded(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("ended-badly", what=task.get_coro(), error=repr(task.exception()))


def _stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
