"""Addresses of SCPI instruments, and the connection that each needs.

``socket://host:5025`` and ``TCPIP::host::5025::SOCKET`` are TCP sockets, read directly; every
other VISA resource is opened by pyvisa.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from drivers.scpi.socket_port import SocketPort
from drivers.scpi.visa import VisaPort
from labd.core.errors import Where

_SOCKET = re.compile(r"TCPIP\d*::([^:]+)::(\d+)::SOCKET", re.IGNORECASE)
_VISA = re.compile(r"(?:USB|TCPIP|GPIB|ASRL|VXI|PXI|PRLGX-\w+)\d*::.+", re.IGNORECASE)


def _socket_address(resource: str) -> str:
    """Return ``socket://host:port`` for a TCP socket, else an empty string."""
    found = _SOCKET.fullmatch(resource)
    if found:
        return f"socket://{found[1]}:{found[2]}"
    return resource if resource.startswith("socket://") else ""


def _known_resource(resource: str) -> str:
    address = _socket_address(resource)
    if re.fullmatch(r"socket://[^:/]+:\d+", address) or (not address and _VISA.fullmatch(resource)):
        return resource
    raise ValueError(
        f"{resource!r} is no instrument's address; examples: 'socket://10.0.0.7:5025', "
        "'TCPIP::10.0.0.7::5025::SOCKET', 'TCPIP::10.0.0.7::inst0::INSTR', "
        "'USB::0x0957::0x0F07::MY50000001::INSTR'"
    )


Resource = Annotated[
    str,
    Field(description="the instrument's address: a TCP socket or a VISA resource name"),
    AfterValidator(_known_resource),
]
VisaBackend = Annotated[
    str,
    Field(
        pattern=r"^[^@]*@\w+$",
        description="VISA library for a resource that is no socket: '@py', '@ivi', 'x.yaml@sim'",
    ),
]


def port_to(resource: str, visa: str, device: str) -> SocketPort | VisaPort:
    """Return the closed port to an instrument.

    Args:
        resource: see :data:`Resource`.
        visa: see :data:`VisaBackend`.
        device: the driver's name, for error texts.
    """
    address = _socket_address(resource)
    if address:
        return SocketPort(address, device)
    return VisaPort(resource, visa, Where(device=f"{device} at {resource}"))
