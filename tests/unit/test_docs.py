"""Pages for developers name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PAGES = [TOP / "README.md", TOP / "docs" / "operate" / "README.md", TOP / "docs" / "service.md", TOP / "docs" / "tour.md", TOP / "docs" / "chores" / "new-endpoint.md"]
NAMED = re.compile(r"`((?:src|tests|tools|docs|kernel|clients|server|cli)/[\w./-]+)`|\]\(([\w./-]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_files_that_are_named_exist(page):
    named = [(path, link) for path, link in NAMED.findall(page.read_text())]
    assert named
    gone = []
    for path, link in named:
        below = page.parent / link if link else TOP / path
        if not below.exists() and not (TOP / "src/pileus" / (path or link)).exists():
            gone.append(path or link)
    assert not gone


def test_every_page_for_operators_is_in_their_list():
    folder = TOP / "docs" / "operate"
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {page.name for page in folder.glob("*.md")} - {"README.md"}
