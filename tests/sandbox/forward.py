"""Tests marked `real` change the host they run on, so each module of them is run by a second pytest inside a fresh sandbox.

The outer pytest collects and selects as always; at the first real test of a module it starts the inner one with exactly the
selected tests of that module, and then takes over its reports one by one. To the user nothing looks different: `pytest
tests/contracts` works from any directory state, with `-k`, `-x`, junit files and several workers. Inside a sandbox (for
example under `python -m tests.sandbox pytest ...`) the tests simply run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.sandbox import TOP, Sandbox, inside, possible

REPORTS = "PILEUS_TEST_REPORTS"


class Inner:
    """A pytest in a sandbox that runs some tests of one module and reports through a pipe."""

    def __init__(self, nodeids: list[str]) -> None:
        self.sandbox = Sandbox()
        self.output = self.sandbox.dir / "pytest.log"
        reader, writer = os.pipe()
        try:
            with self.output.open("w") as log:
                self.process = self.sandbox.popen(
                    [sys.executable, "-m", "pytest", "-p", "no:xdist", *nodeids],
                    cwd=TOP, env={REPORTS: str(writer)}, pass_fds=(writer,), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
        finally:
            os.close(writer)
        self._stream: IO[str] = os.fdopen(reader)

    def reports(self) -> Iterator[dict[str, Any]]:
        for line in self._stream:
            yield json.loads(line)

    def last_words(self) -> str:
        code = self.process.wait()
        return f"the pytest in the sandbox ended with {code} before it reported this test:\n{self.output.read_text()[-6000:]}"

    def close(self) -> None:
        self._stream.close()
        self.sandbox.close()


class Outer:
    """Plugin of the outer pytest."""

    def __init__(self) -> None:
        self.inner: Inner | None = None
        self.module: Path | None = None
        self.problem = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if not is_real(item):
            return None
        if self.module != item.path:
            self.close()
            self.module = item.path
            try:
                self.inner = Inner([other.nodeid for other in item.session.items if other.path == item.path and is_real(other)])
            except Exception as problem:  # no sandbox: the tests of this module fail, the others go on
                self.problem = str(problem)
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self.take_over(item):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        item.session._setupstate.teardown_exact(nextitem)  # what an ordinary test before this one left for a neighbour
        if nextitem is None or nextitem.path != item.path:
            self.close()
        return True

    def take_over(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        for data in self.inner.reports() if self.inner else ():
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
            if report.nodeid == item.nodeid:
                yield report
                if report.when == "teardown":
                    return
        for when in ("call", "teardown"):
            outcome: Any = "failed" if when == "call" else "passed"
            words = self.inner.last_words() if self.inner else self.problem
            longrepr = words if when == "call" else None
            yield pytest.TestReport(item.nodeid, item.location, {item.name: 1}, outcome, longrepr, when)  # type: ignore[arg-type]

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> bool | None:
        """The inner pytest watches the time."""
        return True if is_real(item) else None

    def pytest_unconfigure(self) -> None:
        self.close()

    def close(self) -> None:
        if self.inner:
            self.inner.close()
        self.inner = self.module = None


class Reporter:
    """Plugin of the inner pytest."""

    def __init__(self, config: pytest.Config, stream: IO[str]) -> None:
        self.config, self.stream = config, stream

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.stream.write(json.dumps(data, default=str) + "\n")
        self.stream.flush()


def is_real(item: pytest.Item) -> bool:
    return item.get_closest_marker("real") is not None


def configure(config: pytest.Config) -> None:
    """Choose the side: called from tests/conftest.py."""
    if inside():
        number = os.environ.pop(REPORTS, None)
        if number:
            os.set_inheritable(int(number), False)
            config.pluginmanager.register(Reporter(config, os.fdopen(int(number), "w")), "sandbox-reporter")
    elif possible():
        config.pluginmanager.register(Outer(), "sandbox-outer")


def skip_where_impossible(items: list[pytest.Item]) -> None:
    """Without root no sandbox can be made: such tests are skipped, and say so."""
    if inside() or possible():
        return
    for item in items:
        if is_real(item) or {"host", "hosts", "module_host"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason="test hosts (tests/sandbox) need root"))
