"""Every driver with its byte-level fake: one module a driver in ``cases/``."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncGenerator
from importlib import import_module

import pytest

from labd.simulation.instrument_cable import Cable
from tests.contract import cases
from tests.contract.case import Case, plugged

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(cases.__path__, f"{cases.__name__}.")
    for case in import_module(module.name).CASES
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every case, or those that have what the test's ``only`` mark names."""
    if "case" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("only")
    fitting = [case for case in CASES if mark is None or getattr(case, mark.args[0])]
    metafunc.parametrize("case", fitting, ids=lambda case: case.name)


@pytest.fixture
async def cable(case: Case) -> AsyncGenerator[Cable]:
    async with plugged(case.fake(), case.cable) as plugged_in:
        yield plugged_in
