"""Pages for developers name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PAGES = [TOP / "docs" / "service.md", TOP / "docs" / "tour.md", TOP / "docs" / "chores" / "new-endpoint.md"]
NAMED = re.compile(r"`((?:src|tests|tools|docs|kernel|clients|server|cli)/[\w./-]+)`|\]\(([\w./-]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    named = [(path, link) for path, link in NAMED.findall(page.read_text())]
    assert named
    gone = []
    for path, link in named:
        below = page.parent / link if link else TOP / path
        if not below.exists() and not (TOP / "src/pileus" / (path or link)).exists():
            gone.append(path or link)
    assert not gone
