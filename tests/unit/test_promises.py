"""Every key, option and state that labd offers is read, or produced, somewhere else in the code."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from enum import StrEnum
from importlib import import_module
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from labd.cli import labctl, labd
from labd.core.health import HEALTH, Activity, Health, HealthStep
from labd.core.jobs import TRANSITIONS, JobSpec, JobState, JobStep
from labd.core.model import Verdict
from labd.station import stations_file
from labd.wire.emulation import Emulation
from labd.wire.messages import REQUESTS

REPO = Path(__file__).parents[2]
COPIES = {
    "labd/core/jobs.py",
    "labd/store/journal/rows.py",
    "labd/daemon/job_status.py",
    "labd/wire/messages.py",
}
"""Modules that only copy the fields of a job: a field that nothing else reads has no effect."""


DEFINING = {"labd/core/health.py", "labd/core/jobs.py", "labd/core/model.py"}

ATTRIBUTES: dict[str, list[ast.Attribute]] = {
    str(path.relative_to(REPO)): [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
    ]
    for folder in ("labd", "drivers")
    for path in sorted((REPO / folder).rglob("*.py"))
}
"""Every `value.name` of the code, by module."""


def attributes(*, without: set[str] | frozenset[str] = frozenset()) -> Iterator[ast.Attribute]:
    return (node for path, nodes in ATTRIBUTES.items() if path not in without for node in nodes)


def names_read(*, without: set[str] | frozenset[str] = frozenset()) -> set[str]:
    every = attributes(without=without)
    return {node.attr for node in every if isinstance(node.ctx, ast.Load)}


def fields(*models: type[BaseModel]) -> list[str]:
    return sorted({name for model in models for name in model.model_fields})


READ = names_read()
READ_WITH_EFFECT = names_read(without=COPIES)
TABLES = [
    each
    for each in vars(stations_file).values()
    if inspect.isclass(each) and issubclass(each, stations_file._Table)
]


@pytest.mark.parametrize("key", fields(*TABLES, Emulation))
def test_every_key_of_the_stations_file_is_read(key: str) -> None:
    by_part = {"dut", "io", "power", "flasher"}  # read as the members of Part
    by_dump = set(Emulation.model_fields)  # handed to the bench's process as a whole
    assert key in READ | by_part | by_dump


@pytest.mark.parametrize("key", fields(*REQUESTS.values()))
def test_every_key_of_a_request_is_read(key: str) -> None:
    assert key == "v" or key in READ


@pytest.mark.parametrize("field", list(JobSpec.__dataclass_fields__))
def test_every_field_of_a_job_has_an_effect(field: str) -> None:
    assert field in READ_WITH_EFFECT


def commands() -> Iterator[tuple[str, click.Command]]:
    for group in (labd, labctl):
        for name in group.COMMANDS:
            module = import_module(f"labd.cli.{name}")
            [command] = [
                each
                for each in vars(module).values()
                if isinstance(each, click.Command) and each.name == name
            ]
            yield name, command


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_option_of_a_command_reaches_its_function(name: str, command: click.Command) -> None:
    function = inspect.unwrap(command.callback)  # type: ignore[arg-type]
    taken = inspect.signature(function).parameters
    others = any(each.kind is each.VAR_KEYWORD for each in taken.values())
    used = {
        node.id
        for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(function))))  # type: ignore[arg-type]
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for option in command.params:
        assert option.name in taken or others, option.name
        assert option.name in used or others, option.name


@pytest.mark.parametrize("member", [*Verdict, *Health, *Activity, *JobState, *JobStep, *HealthStep])
def test_every_state_and_verdict_is_produced(member: StrEnum) -> None:
    """Named where it is assigned, or reached by a step that is named."""
    kind, name = type(member).__name__, member.name
    named = {
        (node.value.id, node.attr)
        for node in attributes(without=DEFINING)
        if isinstance(node.value, ast.Name)
    }
    reached: set[StrEnum] = set()
    for table, steps in ((TRANSITIONS, "JobStep"), (HEALTH, "HealthStep")):
        for (_, step), after in table.items():
            if (steps, step.name) in named:
                reached.add(after)
    assert (kind, name) in named or member in reached
