"""Fixtures for all tests: test hosts, and the forwarding of real tests into a sandbox (see tests/README.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.sandbox import Sandbox, Underlay, forward


def pytest_configure(config: pytest.Config) -> None:
    forward.configure(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    forward.skip_where_impossible(items)


@pytest.fixture
def host() -> Iterator[Sandbox]:
    """One test host, for a test that drives it from outside."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def module_host() -> Iterator[Sandbox]:
    """One test host for all tests of a module."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def hosts() -> Iterator[Callable[[int], Underlay]]:
    """`hosts(3)`: an Underlay with three hosts on one wire, closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda count: stack.enter_context(Underlay(count))
