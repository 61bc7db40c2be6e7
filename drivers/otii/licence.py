"""Licence of the Otii Automation Toolbox, which an Otii server demands for requests."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Mapping, Sequence

from drivers.base.closing import CloseStep
from drivers.otii.config import OtiiConfig
from drivers.otii.messages import Message
from drivers.otii.session import OtiiRefusedError, OtiiSession, objects_in
from labd.core.errors import InstrumentError, Where

AUTOMATION = {"Automation", "All", "Admin", "Enterprise"}


class OtiiLicence:
    """Logs in and reserves a licence, unless that has been done by hand.

    Args:
        session: the server.
        config: names the environment variables with the account.
        where: the instrument, for error texts.
    """

    def __init__(self, session: OtiiSession, config: OtiiConfig, where: Where) -> None:
        self._session = session
        self._config = config
        self._where = where
        self._reserved: object = None
        self._logged_in = False

    async def acquire(self) -> None:
        """Get a licence; a server before version 3 has none.

        Raises:
            InstrumentError: no licence is free, or the server refused the account.
        """
        try:
            logged_in = await self._request("otii_is_logged_in")
        except OtiiRefusedError as refusal:
            if refusal.unknown_command:
                return
            raise
        names = (self._config.user_env, self._config.password_env)
        user, password = (os.environ.get(name) for name in names)
        if not logged_in.get("logged_in") and user and password:
            await self._request("otii_login", {"username": user, "password": password})
            self._logged_in = True
        has = await self._request("otii_has_license", {"license_type": "Automation"})
        if has.get("has_license"):
            return
        licences = objects_in((await self._request("otii_get_licenses")).get("licenses"))
        free = next(filter(_is_free, licences), None)
        if free is None:
            raise self._none_free(licences)
        await self._request("otii_reserve_license", {"license_id": free.get("id")})
        self._reserved = free.get("id")

    async def give_back(self, step: CloseStep) -> None:
        """Return what :meth:`acquire` got, in steps of a close."""
        if self._reserved is not None:
            back = self._request("otii_return_license", {"license_id": self._reserved})
            await step("returning the licence", back)
        if self._logged_in:
            await step("logging out", self._request("otii_logout"))

    def _request(self, cmd: str, data: Mapping[str, object] | None = None) -> Awaitable[Message]:
        return self._session.request(cmd, self._config.answer_s, data)

    def _none_free(self, licences: Sequence[Message]) -> InstrumentError:
        listed = ", ".join(
            f"{licence.get('type')} ({licence.get('reserved_to') or 'not usable here'})"
            for licence in licences
        )
        return InstrumentError(
            "no-licence",
            f"no licence for the Automation Toolbox is free; the account has {listed or 'none'}",
            f"release one, or set {self._config.user_env} and {self._config.password_env} to an "
            "account that has one",
            self._where,
        )


def _is_free(licence: Message) -> bool:
    automates = licence.get("type") in AUTOMATION or any(
        addon.get("id") == "Automation" for addon in objects_in(licence.get("addons"))
    )
    return automates and bool(licence.get("available")) and not licence.get("reserved_to")
