"""The agent as the host's process runs it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from pileus.compute.agent import agent
from pileus.compute.agent.assembly import make_driver
from pileus.compute.drivers.fake import FakeDriver
from pileus.compute.options import Options
from pileus.kernel.assembly import AgentEnv
from pileus.kernel.bus import LocalBus
from pileus.kernel.config import load
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.loops import LoopRunner
from tests.contracts.compute_servers import server
from tests.unit.compute.agent.conftest import Controller, until


def environment(home: pathlib.Path, **options: Any) -> AgentEnv:
    config = load(home, {"compute": Options}, environ={}, overrides={"compute": options})
    return AgentEnv(host="h", options=config.section("compute"), config=config, bus=LocalBus("test"), clients=None)


@pytest.fixture
def controller() -> Controller:
    return Controller()


@pytest.fixture
def env(tmp_path: pathlib.Path, controller: Controller) -> Iterator[AgentEnv]:
    env = environment(tmp_path, driver="fake", report_seconds=0.05, fake_vcpus=7)
    env.bus.serve(
        "controller.compute",
        {"compute.desired": controller.desired, "compute.report": controller.report, "compute.wake": controller.wake},
    )
    yield env
    env.bus.close()


def test_a_host_starts_reports_serves_and_stops(env: AgentEnv, controller: Controller) -> None:
    ours = agent(env)
    env.bus.serve("agent.h", ours.calls)
    loops = LoopRunner()
    loops.add(ours.loops, ours.subject)
    ours.start()
    loops.start()
    until(lambda: len(controller.reports) >= 3)
    assert controller.reports[0].resources.vcpus == 7
    assert controller.reports[0].resources.hypervisor_hostname == "h"
    doc = server(None)
    for method in ("prepare", "create", "resume"):
        env.bus.call("agent.h", f"compute.{method}", {"id": doc.id, "epoch": 1, "doc": doc.to_dict()})
    until(lambda: controller.reports[-1].states == {doc.id: "running"})
    loops.stop()
    ours.stop()


def test_a_halted_host_starts_its_guests_again(env: AgentEnv, controller: Controller) -> None:
    doc = server(None)
    first = agent(env)
    env.bus.serve("agent.h", first.calls)
    first.start()
    until(lambda: bool(controller.reports))
    for method in ("prepare", "create", "resume"):
        env.bus.call("agent.h", f"compute.{method}", {"id": doc.id, "epoch": 1, "doc": doc.to_dict()})
    controller.want(doc)
    first.stop()
    agent(env).halt()
    controller.reports.clear()
    second = agent(env)
    second.start()
    until(lambda: bool(controller.reports))
    assert controller.reports[0].states == {doc.id: "running"}
    second.stop()


def test_a_broken_hypervisor_is_tried_again_and_holds_up_nothing(
    env: AgentEnv, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pileus.compute.agent import assembly

    monkeypatch.setattr(assembly, "_START_AGAIN_SECONDS", 0.01)
    start, tries = FakeDriver.start, []

    def picky(self: FakeDriver, changed: Any) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        start(self, changed)

    monkeypatch.setattr(FakeDriver, "start", picky)
    ours = agent(env)
    ours.start()
    until(lambda: bool(controller.reports))
    assert len(tries) == 3
    ours.stop()


@pytest.mark.parametrize("options", [{"driver": "xen"}, {"virt_type": "fast"}])
def test_an_unknown_choice_is_named(tmp_path: pathlib.Path, options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        make_driver(environment(tmp_path, **options))
