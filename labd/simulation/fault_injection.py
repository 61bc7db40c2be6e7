"""Faults to inject into a running bench, and queries of its true state (``--control``).

A command is a line of JSON; its answer is ``{"ok": true, …}`` or ``{"ok": false, "error": …}``.

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

from labd.simulation.station_hardware import StationHardware
from labd.simulation.station_thread import StationThread

Request = dict[str, Any]
BenchAnswer = dict[str, object]
Action = Callable[[StationHardware, Request], BenchAnswer]


class BadRequestError(ValueError):
    """A command is malformed; the text states why."""


def submit_command(stations: dict[str, StationThread], request: Request) -> Future[BenchAnswer]:
    """Hand a command to its station, which answers between two steps of its time.

    Raises:
        BadRequestError: the command is malformed.
    """
    station = stations.get(str(request.get("station")))
    if station is None:
        raise BadRequestError(f"no station {request.get('station')!r}")
    action = _ACTIONS.get(str(request.get("fault") or request.get("query")))
    if action is None:
        raise BadRequestError(f"one of {', '.join(sorted(_ACTIONS))} expected")

    def run_action(hardware: StationHardware) -> BenchAnswer:
        try:
            return action(hardware, request)
        except BadRequestError as error:
            return {"ok": False, "error": str(error)}

    return station.submit_order(run_action, changes="fault" in request)


def _parse_part(hardware: StationHardware, request: Request) -> str:
    part = request.get("part")
    if part not in hardware.ports:
        raise BadRequestError(f"part: one of {', '.join(hardware.ports)} expected")
    return str(part)


def _parse_count(request: Request) -> int:
    count = request.get("count", 1)
    if not isinstance(count, int) or count < 1:
        raise BadRequestError("count: a number from 1 expected")
    return count


def _hang_cpu(hardware: StationHardware, _request: Request) -> BenchAnswer:
    hardware.board.hang("ordered")
    return {}


def _unplug_cable(hardware: StationHardware, request: Request) -> BenchAnswer:
    hardware.unplug_cable(_parse_part(hardware, request))
    return {}


def _plug_cable(hardware: StationHardware, request: Request) -> BenchAnswer:
    part = _parse_part(hardware, request)
    hardware.plug_cable(part)
    return {"path": hardware.ports[part].path}


def _lose_bytes(hardware: StationHardware, request: Request) -> BenchAnswer:
    part, count = _parse_part(hardware, request), _parse_count(request)
    if request.get("direction", "out") != "in":
        hardware.ports[part].lose_next_bytes(count)
    elif part == "power":
        raise BadRequestError("direction: the power monitor's commands cannot be damaged")
    else:
        hardware.lose_dut_input(count)
    return {}


def _lose_samples(hardware: StationHardware, request: Request) -> BenchAnswer:
    count = _parse_count(request)
    if hardware.monitor is None or not hardware.monitor.is_acquiring:
        raise BadRequestError("no acquisition is running")
    hardware.monitor.lose_samples(count)
    return {}


def _lose_edges(hardware: StationHardware, request: Request) -> BenchAnswer:
    wires = {"timestamp": hardware.timestamp, "processing": hardware.processing}
    count, wire = _parse_count(request), request.get("wire", "timestamp")
    if wire not in wires:
        raise BadRequestError("wire: timestamp or processing expected")
    wires[wire].falls_to_lose += count
    return {}


def _brown_out_supply(hardware: StationHardware, _request: Request) -> BenchAnswer:
    hardware.brown_out_supply()
    return {}


def _block_power_port(hardware: StationHardware, _request: Request) -> BenchAnswer:
    if "power" not in hardware.ports:
        raise BadRequestError("this station has no power monitor")
    hardware.ports["power"].blocked = True
    return {}


def _last_window_energy(hardware: StationHardware, _request: Request) -> BenchAnswer:
    if len(hardware.timestamp_falls) < 2:  # noqa: PLR2004 - a window has two ends
        raise BadRequestError("there were no two timestamp edges yet")
    start, end = hardware.timestamp_falls
    delivered = end.total.difference_from(start.total)
    return {
        "start_ps": start.at_ps,
        "end_ps": end.at_ps,
        "charge_c": delivered.coulombs,
        "energy_j": delivered.joules,
    }


def _board_state(hardware: StationHardware, _request: Request) -> BenchAnswer:
    board = hardware.board
    return {
        "state": board.state.name.lower(),
        "why_stuck": board.why_stuck,
        "now_ps": hardware.timeline.now_ps,
        "powered": board.is_powered,
        "voltage_mv": board.voltage_mv,
        "current_na": board.ledger.current_na,
        "uart_baud": board.uart_baud,
    }


_ACTIONS: dict[str, Action] = {
    "hang": _hang_cpu,
    "unplug": _unplug_cable,
    "plug": _plug_cable,
    "lose_bytes": _lose_bytes,
    "lose_samples": _lose_samples,
    "lose_edge": _lose_edges,
    "brown_out": _brown_out_supply,
    "slow_host": _block_power_port,
    "window_energy": _last_window_energy,
    "state": _board_state,
}
