from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labd.store.journal.journal import Journal


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'labd.sqlite3'}"


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    opened = Journal(url)
    yield opened
    opened.close()
