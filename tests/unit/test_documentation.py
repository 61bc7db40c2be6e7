"""What README and docs/ say exists: paths, commands with their options, keys of stations.toml."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import tomli

from drivers.base.registry import Registry
from labd.cli.labctl import main as labctl
from labd.cli.labd import main as labd
from labd.core.model import Part

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS: dict[str, click.Command] = {"labd": labd, "labctl": labctl}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"`((?:labd|drivers|tests|docs|firmware|datasets|benchmarks)/[\w./-]+)`")
_LINK = re.compile(r"\]\(([^)#]+?\.md)(?:#[^)]*)?\)")


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(page.read_text()) if found == language]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every labd and labctl command, without comments and redirections."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and "=" in words[0]:
                del words[0]
            for stop in ("|", "&", ">"):
                if stop in words:
                    del words[words.index(stop) :]
            if words and words[0] in PROGRAMS:
                yield words


def parse(command: click.Command, name: str, words: list[str]) -> None:
    context = click.Context(command, info_name=name)
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{name} has no command {words[0]}"
        parse(found, words[0], words[1:])
        return
    command.make_parser(context).parse_args(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_exists_with_its_options(page: Path) -> None:
    for words in commands(page):
        try:
            parse(PROGRAMS[words[0]], words[0], words[1:])
        except click.UsageError as error:
            raise AssertionError(f"{shlex.join(words)}: {error.format_message()}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_and_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    missing = [path for path in _PATH.findall(text) if not (ROOT / path).exists()]
    links = [link for link in _LINK.findall(text) if "://" not in link]
    missing += [link for link in links if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "hardware").glob("*.md")), ids=lambda p: p.stem
)
def test_every_part_in_a_hardware_page_is_accepted_by_its_driver(page: Path) -> None:
    registry = Registry.from_entry_points()
    for block in blocks(page, "toml"):
        for text in re.split(r"^(?=power = )", block, flags=re.MULTILINE):
            document = tomli.loads(text)
            stations = document.get("station", document)
            table = stations[0] if isinstance(stations, list) else stations
            for part in Part:
                if part in table:
                    values = dict(table[part])
                    assert registry.configure_part(part, values.pop("driver"), values)


def test_there_are_commands_and_parts_to_check() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 30
