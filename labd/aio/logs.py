"""Logging of a labd process: one tree of stdlib loggers, one format for all of them.

Loggers are named by module, such as ``labd.mqtt.link`` or ``drivers.ppk2.driver``.
The daemon's use structlog's interface, all others that of ``logging``.
"""

from __future__ import annotations

import logging
import sys
import threading
from traceback import format_exception
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import structlog

from labd.core.visible_text import make_visible

if TYPE_CHECKING:
    from structlog.typing import EventDict, ExcInfo, Processor

PACKAGES = ("labd", "drivers")

_options: list[str] = []


def set_up_logging(*, as_json: bool, verbose: bool) -> None:
    """Log to standard error, as lines for people or one JSON object per line.

    Args:
        as_json: for log collectors.
        verbose: labd's own debug messages too; other packages log warnings and errors only.
    """
    _options[:] = ["--log-json"] * as_json + ["--verbose"] * verbose
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso"),
        _make_values_visible,
    ]
    renderers: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=_write_traceback
            )
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda ended: _log_uncaught(
        ended.exc_type, ended.exc_value, ended.exc_traceback
    )
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    """Log the error that ends the process or a thread like every other line."""
    info = (kind, error or kind(), traceback)
    logging.getLogger("labd").critical("labd-bug", exc_info=info)


def _write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback without local variables, which hold passwords, and without controls."""
    text = "".join(format_exception(*exc_info))
    stream.write("\n" + make_visible(text.rstrip(), keep="\n"))


def _make_values_visible(_: object, __: str, event: EventDict) -> EventDict:
    """Keep a record on one line: text of devices and users must not look like another record."""
    return {
        key: make_visible(value) if isinstance(value, str) else value
        for key, value in event.items()
    }


def log_options() -> list[str]:
    """Return the command-line options that make a child process log as this one does."""
    return list(_options)
