"""The connection of a labctl command to its lab, and its exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import click

from labd.cli.options import Target
from labd.cli.terminal import print_line
from labd.client.lab_client import LabClient
from labd.core.errors import LabdError, TransportError

REFUSED_STATUS = 2
UNREACHABLE_STATUS = 7
INTERRUPTED_STATUS = 130
BROKEN_PIPE_STATUS = 141

P = ParamSpec("P")


def with_client(
    work: Callable[Concatenate[LabClient, P], Coroutine[Any, Any, int]],
) -> Callable[P, None]:
    """Make a command of a coroutine that takes a connected client and returns an exit status."""

    @click.pass_obj
    @wraps(work)
    def command(target: Target, /, *args: P.args, **kwargs: P.kwargs) -> None:
        async def run_connected() -> int:
            async with LabClient(target.broker, target.lab, target.user) as client:
                return await work(client, *args, **kwargs)

        sys.exit(_exit_status(run_connected()))

    return command


async def send_and_print_request(
    client: LabClient, verb: str, *, as_json: bool, **fields: Any
) -> int:
    """Send a request and print its reply."""
    reply = await client.send_request(verb, **fields)
    print_line(reply.model_dump_json() if as_json else f"{reply.job}: {reply.text}")
    return 0


def _exit_status(work: Coroutine[Any, Any, int]) -> int:
    """Run a command; print an error as one line and return its exit status."""
    # an outage is shown by the command; warnings of the link would be printed into the middle
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        print_line("labctl: interrupted", err=True)
        return INTERRUPTED_STATUS
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_STATUS
    except TransportError as error:
        print_line(f"labctl: {error}", err=True)
        return UNREACHABLE_STATUS
    except LabdError as error:
        print_line(f"labctl: {error}", err=True)
        return REFUSED_STATUS
