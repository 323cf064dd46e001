"""docs/configuration.md says what the code takes."""

from tools import configuration


def test_the_committed_page_is_current():
    assert configuration.TARGET.read_text() == configuration.text(), "run python tools/configuration.py"
