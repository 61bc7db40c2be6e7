"""A broker's address: ``mqtt://[user:password@]host[:port]``."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from labd.core.errors import ConfigError

DEFAULT_PORT = 1883


@dataclass(frozen=True, slots=True)
class Address:
    """Address and credentials of a broker."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Format the URL without the password."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{user}{host}:{self.port}"


def parse_broker_url(url: str) -> Address:
    """Parse a broker's URL; no error contains the password.

    Raises:
        ConfigError: it has another form.
    """
    try:
        parts = urlsplit(url)
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            raise _malformed_url_error("write / ? # in its user or password as %2F %3F %23")
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise _malformed_url_error(str(error).split(":")[0]) from None
    if parts.scheme != "mqtt":
        raise _malformed_url_error("it does not begin with mqtt://")
    if not parts.hostname or port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
        raise _malformed_url_error("it has more than a host and a port")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Address(parts.hostname, port, user, password)


def _malformed_url_error(why: str) -> ConfigError:
    remedy = "write mqtt://host:port or mqtt://user:password@host:port"
    return ConfigError("broker-url", f"the broker's address is wrong: {why}", remedy)
