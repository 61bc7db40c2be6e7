"""Publishes the retained status messages of the daemon and of its stations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Literal

import structlog

from labd.core.errors import LabdError
from labd.daemon.job_log import JobLog
from labd.daemon.supervisor import Supervisor
from labd.wire.messages import BoardFirmware, DaemonStatus, PartIdentity, StationStatus
from labd.wire.topics import Topics

log = structlog.get_logger(__name__)


class StatusPublisher:
    """Builds and publishes status messages.

    Args:
        started: the daemon's own status, with its host, process, journal and start.
        topics: of the lab.
        job_log: its outbox carries the messages.
        supervisors: of every station, by name.
        now_ns: wall clock, ns since the epoch.
    """

    def __init__(
        self,
        started: DaemonStatus,
        topics: Topics,
        job_log: JobLog,
        supervisors: Mapping[str, Supervisor],
        now_ns: Callable[[], int],
    ) -> None:
        self._started = started
        self._topics = topics
        self._job_log = job_log
        self._supervisors = supervisors
        self._now_ns = now_ns

    def daemon_status(self, state: Literal["online", "offline"]) -> DaemonStatus:
        """Return the daemon's status."""
        return self._started.model_copy(update={"state": state})

    def station_statuses(self) -> list[StationStatus]:
        """Return the status of every station."""
        return [self._station_status(supervisor) for supervisor in self._supervisors.values()]

    def publish_daemon(self, state: Literal["online", "offline"]) -> None:
        """Publish the daemon's status."""
        payload = self.daemon_status(state).to_json_bytes()
        self._job_log.queue_message(
            self._topics.daemon_topic(self._started.host), payload, retain=True
        )

    def publish_station(self, supervisor: Supervisor) -> None:
        """Publish one station's status."""
        payload = self._station_status(supervisor).to_json_bytes()
        self._job_log.queue_message(
            self._topics.station_topic(supervisor.name), payload, retain=True
        )

    async def republish_retained(self) -> None:
        """Publish every retained message again: a broker that restarted may have lost them."""
        self.publish_daemon("online")
        for supervisor in self._supervisors.values():
            self.publish_station(supervisor)
        try:
            await self._job_log.queue_recent_job_states()
        except LabdError as error:
            log.warning("states-not-published", error=str(error))

    def _station_status(self, supervisor: Supervisor) -> StationStatus:
        station = supervisor.station
        return StationStatus(
            station=supervisor.name,
            host=self._started.host,
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
            firmware=supervisor.holds and BoardFirmware(**asdict(supervisor.holds)),
            updated_ns=self._now_ns(),
        )
