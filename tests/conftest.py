"""Fixtures for all tests: test hosts, and the forwarding of real tests into a sandbox (see tests/README.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import databases
from tests.sandbox import TOP, Sandbox, Underlay, forward

pytest.register_assert_rewrite("tests.guest.steps", "tests.guest.stock", "tests.guest.traces")
PROBE = TOP / "tests/probe"


def pytest_configure(config: pytest.Config) -> None:
    forward.configure(config)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=1, help="run each test of tests/probe so many times")
    parser.addoption("--minutes", type=float, default=0.4, help="how long tests/probe/test_chaos.py goes on")
    parser.addoption("--seed", type=int, default=0, help="what happens in chaos and simulation; 0 chooses one and prints it")
    parser.addoption("--requests", type=int, default=0, help="how many requests each fuzzing test sends instead of a few known ones")
    parser.addoption("--histories", type=int, default=0, help="how many histories tests/sim plays instead of a few known ones")
    parser.addoption("--deeds", type=int, default=360, help="how long each of them is")
    parser.addoption("--shrink", type=float, default=120.0, help="seconds to look for a shorter history that fails too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rounds = metafunc.config.getoption("--rounds")
    if rounds > 1 and PROBE in metafunc.definition.path.parents:
        metafunc.fixturenames.append("probe_round")
        metafunc.parametrize("probe_round", range(rounds))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Files go to the workers as a whole; the files that start whole clouds and guests all go to one worker, one after the other."""
    from xdist.scheduler import LoadFileScheduling

    class OneMachine(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "machine" if nodeid.startswith(("tests/guest/", "tests/probe/")) else str(super()._split_scope(nodeid))

    return OneMachine(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    forward.skip_where_impossible(items)


@pytest.fixture(params=databases.KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database: the test runs on SQLite, PostgreSQL and MariaDB."""
    with databases.database_url(request.param, tmp_path) as url:
        yield url


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
