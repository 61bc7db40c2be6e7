"""Requests to an Otii server, one at a time, and the licence that it demands for them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from drivers.base.closing import CloseStep
from drivers.base.serial_link import Link
from drivers.otii.config import OtiiConfig
from drivers.otii.messages import InvalidLine, Message, MessageSplitter, encode_request
from labd.core.errors import DeadlineExceeded, InstrumentError
from labd.protocol.lines import format_quote

UNKNOWN_COMMAND = "invalid command"
HINTS = (
    ("licen", "log in and reserve a licence for the Automation Toolbox"),
    ("logged", "set the two environment variables with the Otii account, see `user_env`"),
    ("password", "check the Otii account in the environment of labd"),
    (UNKNOWN_COMMAND, "update the Otii software to version 3.1 or later"),
    ("device", "check the device's USB cable and supply, and that no other program uses it"),
    ("project", "close the project in the Otii desktop app"),
    ("recording", "stop the recording in the Otii desktop app"),
)


class OtiiRefusedError(InstrumentError):
    """The server answered a request with an error."""

    @property
    def is_unknown_command(self) -> bool:
        """Whether this server or device does not have the command."""
        return UNKNOWN_COMMAND in self.what.lower()


class OtiiSession:
    """Requests to one server, one at a time.

    An answer carries the ``trans_id`` of its request; a late answer to an abandoned request is
    dropped.

    Args:
        link: to the server.
        answer_s: longest wait for an answer, seconds.
    """

    def __init__(self, link: Link, answer_s: float) -> None:
        self.where = link.where
        self._link = link
        self._answer_s = answer_s
        self._splitter = MessageSplitter()
        self._messages: list[Message | InvalidLine] = []
        self._number = 0

    async def read_greeting(self) -> Message:
        """Return the data of the message that the server sends on connection.

        Raises:
            InstrumentError: it refuses the connection, or is no Otii server.
            DeadlineExceeded: no message.
        """
        async with self._answer_deadline(self._answer_s, "greeting"):
            while True:
                message = await self._next_message()
                if message.get("type") == "error":
                    raise self._refused_error("connecting", message)
                if message.get("type") == "information":
                    return as_object(message.get("data"))

    async def request(
        self, cmd: str, data: Mapping[str, object] | None = None, more_s: float = 0.0
    ) -> Message:
        """Send one request, wait ``more_s`` longer than usual, and return the data of its answer.

        Raises:
            OtiiRefusedError: the server answered with an error.
            InstrumentError: it sent something that is no message of this protocol.
            DeadlineExceeded: no answer.
        """
        self._number += 1
        trans_id = f"labd-{self._number}"
        async with self._answer_deadline(self._answer_s + more_s, f"'{cmd}'"):
            await self._link.write(encode_request(cmd, trans_id, data))
            while True:
                message = await self._next_message()
                if message.get("trans_id", trans_id) != trans_id:
                    continue
                if message.get("type") == "error":
                    raise self._refused_error(f"'{cmd}'", message)
                if message.get("type") == "response":
                    return as_object(message.get("data"))

    def _refused_error(self, what: str, message: Message) -> OtiiRefusedError:
        detail = as_object(message.get("data")).get("message", "")
        text = f"{message.get('errorcode', 'no error code')} {detail}".strip()
        hint = next((hint for word, hint in HINTS if word in text.lower()), "")
        remedy = hint or "read the log of the Otii application"
        return OtiiRefusedError("otii-refused", f"{what} refused: {text}", remedy, self.where)

    @asynccontextmanager
    async def _answer_deadline(self, deadline_s: float, what: str) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(deadline_s):
                yield
        except TimeoutError as exc:
            raise DeadlineExceeded(
                "no-answer",
                f"{what}: no answer within {deadline_s:g} s",
                "check that the Otii server is not stuck; restart it",
                self.where,
            ) from exc

    async def _next_message(self) -> Message:
        while not self._messages:
            chunk = await self._link.read(None)
            self._messages = self._splitter.feed(chunk.data)
        message = self._messages.pop(0)
        if isinstance(message, InvalidLine):
            raise InstrumentError(
                "otii-garbage",
                f"the server sent something that is no JSON object: {format_quote(message.text)}",
                "check that host and port in stations.toml are those of an Otii server",
                self.where,
            )
        return message


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device of the server."""

    id: str
    name: str
    model: str


class OtiiDevice:
    """Requests about one device and its project, to which recordings belong."""

    def __init__(self, session: OtiiSession, info: DeviceInfo, project: int) -> None:
        self.info = info
        self._session = session
        self._project = project

    async def request(self, cmd: str, **data: object) -> Message:
        """Send a request about the device; return the data of its answer."""
        return await self._session.request(cmd, {"device_id": self.info.id, **data})

    async def request_project(self, cmd: str) -> Message:
        """Send a request about the project; return the data of its answer."""
        return await self._session.request(cmd, {"project_id": self._project})

    async def try_request(self, cmd: str, **data: object) -> Message | None:
        """Send a request that this server or device may not have; return ``None`` then."""
        try:
            return await self.request(cmd, **data)
        except OtiiRefusedError as refusal:
            if not refusal.is_unknown_command:
                raise
            return None


def as_object(value: object) -> Message:
    """Return a JSON object; an empty one if ``value`` is none."""
    return cast("Message", value) if isinstance(value, dict) else {}


def as_objects(value: object) -> list[Message]:
    """Return the objects of a JSON array."""
    if not isinstance(value, list):
        return []
    return [as_object(item) for item in cast("list[object]", value)]


AUTOMATION = {"Automation", "All", "Admin", "Enterprise"}


class OtiiLicence:
    """Licence of the Automation Toolbox: logs in and reserves one, unless done by hand.

    The account is in the environment variables that ``config`` names.
    """

    def __init__(self, session: OtiiSession, config: OtiiConfig) -> None:
        self._session = session
        self._config = config
        self._reserved: object = None
        self._logged_in = False

    async def acquire(self) -> None:
        """Get a licence; a server before version 3 has none.

        Raises:
            InstrumentError: no licence is free, or the server refused the account.
        """
        try:
            logged_in = await self._session.request("otii_is_logged_in")
        except OtiiRefusedError as refusal:
            if refusal.is_unknown_command:
                return
            raise
        names = (self._config.user_env, self._config.password_env)
        user, password = (os.environ.get(name) for name in names)
        if not logged_in.get("logged_in") and user and password:
            await self._session.request("otii_login", {"username": user, "password": password})
            self._logged_in = True
        has = await self._session.request("otii_has_license", {"license_type": "Automation"})
        if has.get("has_license"):
            return
        licences = as_objects((await self._session.request("otii_get_licenses")).get("licenses"))
        free = next(filter(_is_free, licences), None)
        if free is None:
            raise self._no_licence_error(licences)
        await self._session.request("otii_reserve_license", {"license_id": free.get("id")})
        self._reserved = free.get("id")

    async def return_licence(self, step: CloseStep) -> None:
        """Return what :meth:`acquire` got, in steps of a close."""
        if self._reserved is not None:
            back = self._session.request("otii_return_license", {"license_id": self._reserved})
            await step("returning the licence", back)
        if self._logged_in:
            await step("logging out", self._session.request("otii_logout"))

    def _no_licence_error(self, licences: Sequence[Message]) -> InstrumentError:
        listed = ", ".join(
            f"{licence.get('type')} ({licence.get('reserved_to') or 'not usable here'})"
            for licence in licences
        )
        return InstrumentError(
            "no-licence",
            f"no licence for the Automation Toolbox is free; the account has {listed or 'none'}",
            f"release one, or set {self._config.user_env} and {self._config.password_env} to an "
            "account that has one",
            self._session.where,
        )


def _is_free(licence: Message) -> bool:
    automates = licence.get("type") in AUTOMATION or any(
        addon.get("id") == "Automation" for addon in as_objects(licence.get("addons"))
    )
    return automates and bool(licence.get("available")) and not licence.get("reserved_to")
