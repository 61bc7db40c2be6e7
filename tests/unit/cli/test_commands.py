"""The command lines as a whole: help that answers at once, and imports kept to what is needed."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from labd.cli import labctl, labd
from labd.cli.lazy_group import LazyGroup

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from labd.cli.{program} import main
main()
"""
DAEMON_ONLY = {"serialx", "pyvisa", "scipy", "sklearn", "sqlalchemy", "structlog", "tomli"}
OPTIONAL = {"matplotlib", "pyarrow", "pyjls", "unicorn"}


def run_blocked(
    blocked: set[str], program: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line in an interpreter that cannot import some packages."""
    code = BLOCK.format(blocked=blocked, program=program)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("program", [labd, labctl])
def test_the_list_of_commands_repeats_their_docstrings(program: ModuleType) -> None:
    group = program.main
    assert isinstance(group, LazyGroup)
    for name, summary in group.summaries.items():
        command = group.get_command(click.Context(group), name)
        assert command is not None
        assert command.name == name
        assert (command.help or "").partition("\n\n")[0].replace("\n", " ") == summary


@pytest.mark.parametrize("program", ["labd", "labctl"])
def test_help_imports_no_package_but_click(program: str) -> None:
    heavy = DAEMON_ONLY | OPTIONAL | {"aiomqtt", "numpy", "pydantic", "rich"}
    done = run_blocked(heavy, program, "--help")
    assert done.returncode == 0, done.stderr
    assert "Commands:" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs",),
        ("stations",),
        ("show", "j"),
        ("watch", "j"),
        ("events", "j"),
        ("submit", "digits01"),
        ("cancel", "j"),
        ("pin", "j"),
        ("unpin", "j"),
    ],
)
def test_a_client_needs_no_package_of_the_daemon_and_no_numpy(arguments: tuple[str, ...]) -> None:
    nobody = ("--broker", "mqtt://127.0.0.1:1")
    done = run_blocked(DAEMON_ONLY | OPTIONAL | {"numpy"}, "labctl", *nobody, *arguments)
    assert done.returncode == 7, done.stderr
    assert "no broker at mqtt://127.0.0.1:1" in done.stderr


@pytest.mark.parametrize("arguments", [("serve",), ("check",), ("traces",), ("demo",)])
def test_a_missing_package_is_named_with_its_extra(arguments: tuple[str, ...]) -> None:
    done = run_blocked(DAEMON_ONLY, "labd", *arguments)
    assert done.returncode == 1
    assert "pip install 'labd[daemon]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("scipy", "daemon"),
        ("unicorn", "emulator"),
        ("matplotlib", "report"),
        ("pyarrow", "export"),
        ("ziglang", "firmware"),
    ],
)
def test_the_extra_of_a_missing_package(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError(name=f"{package}.part")

    monkeypatch.setattr(LazyGroup, "get_command", missing)
    done = CliRunner().invoke(labd.main, ["check"])
    assert done.exit_code == 1
    assert f"needs the package {package}, which is not installed" in done.output
    assert f"pip install 'labd[{extra}]'" in done.output


def test_the_help_of_labd_lists_the_exit_statuses() -> None:
    assert "2 stations.toml is wrong" in CliRunner().invoke(labd.main, ["--help"]).output


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--modes", "accuracy,speed", "'speed' is not one of accuracy, performance, energy"),
        ("--priority", "urgent", "'urgent' is not one of 'interactive', 'normal', 'overnight'"),
        ("--energy-method", "exact", "'exact' is not one of 'labd', 'mlcommons', 'eembc'"),
    ],
)
def test_submit_checks_its_options_before_connecting(option: str, value: str, said: str) -> None:
    nobody = ["--broker", "mqtt://127.0.0.1:1"]
    done = CliRunner().invoke(labctl.main, [*nobody, "submit", "digits01", option, value])
    assert done.exit_code == 2
    assert said in done.output


def test_a_path_that_score_does_not_find_is_wrong_usage() -> None:
    done = CliRunner().invoke(labd.main, ["score", "no/such/session"])
    assert done.exit_code == 2
    assert "no such folder: no/such/session" in done.output


def test_an_unknown_command_is_refused() -> None:
    done = CliRunner().invoke(labd.main, ["serv"])
    assert done.exit_code == 2
    assert "serv" in done.output


@pytest.mark.parametrize(
    ("program", "name"),
    [(program, name) for program in (labd, labctl) for name in ("", *program.main.summaries)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_command_prints_its_help(program: ModuleType, name: str) -> None:
    done = CliRunner().invoke(program.main, [*filter(None, [name]), "--help"])
    assert done.exit_code == 0, done.output
    first = " ".join(done.output.split())
    summary = program.main.summaries.get(name, "Commands:")
    assert f"Usage: main {name}".rstrip() in first
    assert summary in first
    assert "--help" in done.output
