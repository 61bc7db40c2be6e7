"""Orders to a running bench: faults, and questions about what really happened.

A line of JSON in, a line of JSON out: ``{"ok": true, …}`` or ``{"ok": false, "error": …}``.

==============================  =====================================================
``"fault": "hang"``             the CPU stops until power cycle, reset or flash
``"fault": "unplug"``           ``part``'s USB cable is pulled (``"plug"`` puts it back)
``"fault": "lose_bytes"``       the next ``count`` bytes of ``part`` are lost on their way
                                to the host, or to the DUT with ``"direction": "in"``
``"fault": "lose_samples"``     the monitor leaves ``count`` samples out
``"fault": "lose_edge"``        the next pulse(s) (``count``) of ``wire`` (``timestamp`` or
                                ``processing``) do not reach the instruments
``"fault": "brown_out"``        the board's supply fails for 20 ms
``"fault": "slow_host"``        the power port is no longer read; the buffer runs over
``"query": "window_energy"``    exact charge and energy between the last two timestamp falls
``"query": "state"``            what the board is doing, and the virtual time
==============================  =====================================================
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from labd.simulation.emulated_station import Station
from labd.simulation.wiring import Wiring

Request = dict[str, Any]
Answer = dict[str, object]


class BadRequestError(ValueError):
    """The order makes no sense; the text says why."""


def obey(stations: dict[str, Station], request: Request) -> Future[Answer]:
    """Hand an order to its station, which answers between two steps of its time.

    Raises:
        BadRequestError: it makes no sense.
    """
    station = stations.get(str(request.get("station")))
    if station is None:
        raise BadRequestError(f"no station {request.get('station')!r}")
    action = _ACTIONS.get(str(request.get("fault") or request.get("query")))
    if action is None:
        raise BadRequestError(f"one of {', '.join(sorted(_ACTIONS))} expected")
    return station.order(action(station, request))


Action = Callable[[Station, Request], Callable[[Wiring], Answer]]


def _part(station: Station, request: Request) -> str:
    part = request.get("part")
    if part not in station.wiring.ports:
        raise BadRequestError(f"part: one of {', '.join(station.wiring.ports)} expected")
    return str(part)


def _count(request: Request) -> int:
    count = request.get("count", 1)
    if not isinstance(count, int) or count < 1:
        raise BadRequestError("count: a number from 1 expected")
    return count


def _hang(_station: Station, _request: Request) -> Callable[[Wiring], Answer]:
    def act(wiring: Wiring) -> Answer:
        wiring.board.hang("ordered")
        return {}

    return act


def _unplug(station: Station, request: Request) -> Callable[[Wiring], Answer]:
    part = _part(station, request)

    def act(wiring: Wiring) -> Answer:
        wiring.pull(part)
        return {}

    return act


def _plug(station: Station, request: Request) -> Callable[[Wiring], Answer]:
    part = _part(station, request)

    def act(wiring: Wiring) -> Answer:
        wiring.plug(part)
        return {"path": wiring.ports[part].path}

    return act


def _lose_bytes(station: Station, request: Request) -> Callable[[Wiring], Answer]:
    part, count = _part(station, request), _count(request)
    inwards = request.get("direction", "out") == "in"
    if inwards and part == "power":
        raise BadRequestError("direction: the power monitor's commands cannot be damaged")

    def act(wiring: Wiring) -> Answer:
        if inwards:
            wiring.lose_received(count)
        else:
            wiring.ports[part].lose_next(count)
        return {}

    return act


def _lose_samples(_station: Station, request: Request) -> Callable[[Wiring], Answer]:
    count = _count(request)

    def act(wiring: Wiring) -> Answer:
        if wiring.monitor is None or not wiring.monitor.acquiring:
            return {"ok": False, "error": "no acquisition is running"}
        wiring.monitor.lose_samples(count)
        return {}

    return act


def _lose_edge(_station: Station, request: Request) -> Callable[[Wiring], Answer]:
    count, wire = _count(request), request.get("wire", "timestamp")
    if wire not in ("timestamp", "processing"):
        raise BadRequestError("wire: timestamp or processing expected")

    def act(wiring: Wiring) -> Answer:
        lossy = wiring.timestamp if wire == "timestamp" else wiring.processing
        lossy.to_lose += count
        return {}

    return act


def _brown_out(_station: Station, _request: Request) -> Callable[[Wiring], Answer]:
    def act(wiring: Wiring) -> Answer:
        wiring.brown_out()
        return {}

    return act


def _slow_host(station: Station, _request: Request) -> Callable[[Wiring], Answer]:
    if "power" not in station.wiring.ports:
        raise BadRequestError("this station has no power monitor")

    def act(wiring: Wiring) -> Answer:
        wiring.ports["power"].blocked = True
        return {}

    return act


def _window_energy(_station: Station, _request: Request) -> Callable[[Wiring], Answer]:
    def act(wiring: Wiring) -> Answer:
        if len(wiring.falls) < 2:  # noqa: PLR2004 - a window has two ends
            return {"ok": False, "error": "there were no two timestamp edges yet"}
        start, end = wiring.falls
        taken = end.total.since(start.total)
        return {
            "start_ps": start.at_ps,
            "end_ps": end.at_ps,
            "charge_c": taken.coulombs,
            "energy_j": taken.joules,
        }

    return act


def _state(_station: Station, _request: Request) -> Callable[[Wiring], Answer]:
    def act(wiring: Wiring) -> Answer:
        board = wiring.board
        return {
            "state": board.state.name.lower(),
            "why_stuck": board.why_stuck,
            "now_ps": wiring.timeline.now_ps,
            "powered": board.powered,
            "voltage_mv": board.voltage_mv,
            "current_na": board.ledger.current_na,
            "uart_baud": board.uart_baud,
        }

    return act


_ACTIONS: dict[str, Action] = {
    "hang": _hang,
    "unplug": _unplug,
    "plug": _plug,
    "lose_bytes": _lose_bytes,
    "lose_samples": _lose_samples,
    "lose_edge": _lose_edge,
    "brown_out": _brown_out,
    "slow_host": _slow_host,
    "window_energy": _window_energy,
    "state": _state,
}
