"""Orders to a running bench: faults, and questions about its true state.

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
``"query": "state"``            state of the board, and the virtual time
==============================  =====================================================
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from labd.simulation.station_thread import StationThread
from labd.simulation.wiring import StationWiring

Request = dict[str, Any]
BenchAnswer = dict[str, object]
Action = Callable[[StationWiring, Request], BenchAnswer]


class BadRequestError(ValueError):
    """The order is malformed; the text states why."""


def obey(stations: dict[str, StationThread], request: Request) -> Future[BenchAnswer]:
    """Hand an order to its station, which answers between two steps of its time.

    Raises:
        BadRequestError: the order is malformed.
    """
    station = stations.get(str(request.get("station")))
    if station is None:
        raise BadRequestError(f"no station {request.get('station')!r}")
    action = _ACTIONS.get(str(request.get("fault") or request.get("query")))
    if action is None:
        raise BadRequestError(f"one of {', '.join(sorted(_ACTIONS))} expected")

    def act(wiring: StationWiring) -> BenchAnswer:
        try:
            return action(wiring, request)
        except BadRequestError as error:
            return {"ok": False, "error": str(error)}

    return station.order(act, changes="fault" in request)


def _part(wiring: StationWiring, request: Request) -> str:
    part = request.get("part")
    if part not in wiring.ports:
        raise BadRequestError(f"part: one of {', '.join(wiring.ports)} expected")
    return str(part)


def _count(request: Request) -> int:
    count = request.get("count", 1)
    if not isinstance(count, int) or count < 1:
        raise BadRequestError("count: a number from 1 expected")
    return count


def _hang(wiring: StationWiring, _request: Request) -> BenchAnswer:
    wiring.board.hang("ordered")
    return {}


def _unplug(wiring: StationWiring, request: Request) -> BenchAnswer:
    wiring.pull(_part(wiring, request))
    return {}


def _plug(wiring: StationWiring, request: Request) -> BenchAnswer:
    part = _part(wiring, request)
    wiring.plug(part)
    return {"path": wiring.ports[part].path}


def _lose_bytes(wiring: StationWiring, request: Request) -> BenchAnswer:
    part, count = _part(wiring, request), _count(request)
    if request.get("direction", "out") != "in":
        wiring.ports[part].lose_next(count)
    elif part == "power":
        raise BadRequestError("direction: the power monitor's commands cannot be damaged")
    else:
        wiring.lose_received(count)
    return {}


def _lose_samples(wiring: StationWiring, request: Request) -> BenchAnswer:
    count = _count(request)
    if wiring.monitor is None or not wiring.monitor.acquiring:
        raise BadRequestError("no acquisition is running")
    wiring.monitor.lose_samples(count)
    return {}


def _lose_edge(wiring: StationWiring, request: Request) -> BenchAnswer:
    wires = {"timestamp": wiring.timestamp, "processing": wiring.processing}
    count, wire = _count(request), request.get("wire", "timestamp")
    if wire not in wires:
        raise BadRequestError("wire: timestamp or processing expected")
    wires[wire].to_lose += count
    return {}


def _brown_out(wiring: StationWiring, _request: Request) -> BenchAnswer:
    wiring.brown_out()
    return {}


def _slow_host(wiring: StationWiring, _request: Request) -> BenchAnswer:
    if "power" not in wiring.ports:
        raise BadRequestError("this station has no power monitor")
    wiring.ports["power"].blocked = True
    return {}


def _window_energy(wiring: StationWiring, _request: Request) -> BenchAnswer:
    if len(wiring.falls) < 2:  # noqa: PLR2004 - a window has two ends
        raise BadRequestError("there were no two timestamp edges yet")
    start, end = wiring.falls
    delivered = end.total.since(start.total)
    return {
        "start_ps": start.at_ps,
        "end_ps": end.at_ps,
        "charge_c": delivered.coulombs,
        "energy_j": delivered.joules,
    }


def _state(wiring: StationWiring, _request: Request) -> BenchAnswer:
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
