"""The reconciling side of the network agent, with a controller played by the test and the fake host."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pileus.kernel.bus import LocalBus
from pileus.network.agent.loops import Keeper
from pileus.network.drivers.base import Settings
from pileus.network.drivers.fake import FakeDriver
from pileus.network.wire import Desired, Gone, MetadataOwner, RouterItem, to_dict
from tests.contracts.network_world import a_network, a_port, an_interface, new_id


class Controller:
    """What the controller's side of the bus says and hears."""

    def __init__(self, bus: LocalBus) -> None:
        self.answer: Callable[[int], Desired] = lambda since: Desired(version=1, full=True)
        self.asked: list[int] = []
        self.reports: list[dict] = []
        self.beats: list[dict] = []
        self.refuse_reports = False
        self._heard = threading.Condition()
        bus.serve("controller.network", {"network.desired": self.desired, "network.report": self.report, "network.heartbeat": self.beats.append})

    def desired(self, payload: dict) -> dict:
        self.asked.append(payload["since"])
        with self._heard:
            self._heard.notify_all()
        return to_dict(self.answer(payload["since"]))

    def report(self, payload: dict) -> None:
        if self.refuse_reports:
            raise RuntimeError("not now")
        with self._heard:
            self.reports.append(payload)
            self._heard.notify_all()

    def wait(self, true: Callable[[], bool]) -> None:
        with self._heard:
            assert self._heard.wait_for(true, 10)

    def wait_for(self, port_id: str, status: str) -> dict:
        self.wait(lambda: any(report["ports"].get(port_id) == status for report in self.reports))
        return next(report for report in self.reports if report["ports"].get(port_id) == status)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[Keeper, FakeDriver, Controller]]:
    bus = LocalBus("test")
    driver = FakeDriver(Settings(home=tmp_path, host="h1", vtep="10.9.0.1"))
    keeper = Keeper("h1", driver, bus)
    yield keeper, driver, Controller(bus)
    keeper.stop()


def test_a_start_asks_for_everything_and_reports_it_completely(host) -> None:
    keeper, driver, controller = host
    network = a_network()
    port = a_port(network, "10.1.0.5")
    controller.answer = lambda since: Desired(version=7, full=True, networks=(network,), ports=(port,))
    keeper.start()
    report = controller.wait_for(port.id, "ACTIVE")
    assert controller.asked[0] == 0
    assert (report["version"], report["complete"], report["host"], report["agent"]) == (7, True, "h1", {"vtep": "10.9.0.1"})


def test_a_nudge_brings_the_changes_and_reports_them_alone(host) -> None:
    keeper, driver, controller = host
    network = a_network()
    first, second = a_port(network, "10.1.0.5"), a_port(network, "10.1.0.6")
    controller.answer = lambda since: (
        Desired(version=2, ports=(second,)) if since else Desired(version=1, full=True, networks=(network,), ports=(first,))
    )
    keeper.start()
    controller.wait_for(first.id, "ACTIVE")
    keeper.nudged({"version": 2})
    report = controller.wait_for(second.id, "ACTIVE")
    assert report["ports"] == {second.id: "ACTIVE"}
    assert not report["complete"]


def test_a_nudge_for_what_is_applied_already_asks_nothing(host) -> None:
    keeper, _, controller = host
    controller.answer = lambda since: Desired(version=3, full=not since)
    keeper.start()
    controller.wait(lambda: bool(controller.reports))
    keeper.nudged({"version": 3})
    keeper.nudged({"version": 4})
    controller.wait(lambda: len(controller.asked) == 2)
    assert controller.asked == [0, 3]


def test_a_port_listed_again_is_reported_again(host) -> None:
    keeper, _, controller = host
    network = a_network()
    port = a_port(network, "10.1.0.5")
    controller.answer = lambda since: Desired(version=since + 1, full=not since, networks=(network,), ports=(port,))
    keeper.start()
    controller.wait_for(port.id, "ACTIVE")
    controller.reports.clear()
    keeper.nudged({"version": 2})
    controller.wait_for(port.id, "ACTIVE")


def test_an_older_document_removes_nothing(host) -> None:
    keeper, driver, controller = host
    network = a_network()
    port = a_port(network, "10.1.0.5")
    controller.answer = lambda since: Desired(version=4, full=True) if since else Desired(version=5, full=True, networks=(network,), ports=(port,))
    keeper.start()
    controller.wait_for(port.id, "ACTIVE")
    keeper.want_pull()
    controller.wait(lambda: len(controller.asked) == 2)
    controller.reports.clear()
    keeper.want_report()
    assert controller.wait_for(port.id, "ACTIVE")["version"] == 5


def test_a_failed_part_is_told_down_and_tried_again_with_the_next_pull(host) -> None:
    keeper, driver, controller = host
    network = a_network()
    port = a_port(network, "10.1.0.5")
    driver.knobs.fail.add(port.id)
    controller.answer = lambda since: Desired(version=1, full=not since, **({} if since else {"networks": (network,), "ports": (port,)}))
    keeper.start()
    controller.wait_for(port.id, "DOWN")
    driver.knobs.fail.clear()
    keeper.want_pull()
    controller.wait_for(port.id, "ACTIVE")


def test_a_tap_that_appears_makes_its_port_active(host) -> None:
    keeper, driver, controller = host
    network = a_network()
    port = a_port(network, "10.1.0.5")
    driver.unplug(port.tap)
    controller.answer = lambda since: Desired(version=1, full=not since, **({} if since else {"networks": (network,), "ports": (port,)}))
    keeper.start()
    controller.wait_for(port.id, "DOWN")
    driver.plug(port.tap)
    keeper.taps_changed({"taps": [port.tap]})
    controller.wait_for(port.id, "ACTIVE")


def test_a_report_nobody_took_is_told_completely_later(host) -> None:
    keeper, driver, controller = host
    network = a_network()
    port = a_port(network, "10.1.0.5")
    controller.refuse_reports = True
    applied = threading.Event()
    keeper.applied = lambda listeners: applied.set()
    controller.answer = lambda since: Desired(version=1, full=not since, **({} if since else {"networks": (network,), "ports": (port,)}))
    keeper.start()
    assert applied.wait(10)
    controller.refuse_reports = False
    keeper.want_pull()
    assert controller.wait_for(port.id, "ACTIVE")["complete"]


def test_what_is_gone_is_removed_and_its_tap_forgotten(host) -> None:
    keeper, driver, controller = host
    network = a_network()
    port = a_port(network, "10.1.0.5")
    controller.answer = lambda since: (
        Desired(version=2, gone=Gone(ports=(port.id,))) if since else Desired(version=1, full=True, networks=(network,), ports=(port,))
    )
    done = []
    keeper.applied = done.append
    keeper.start()
    controller.wait_for(port.id, "ACTIVE")
    keeper.nudged({"version": 2})
    controller.wait(lambda: any(report["version"] == 2 for report in controller.reports))
    assert (driver.attached, keeper._taps) == ({}, {})


def test_heartbeats_name_the_four_agents_of_upstream(host) -> None:
    keeper, _, controller = host
    keeper.heartbeat()
    beat = controller.beats[0]
    assert beat["host"] == "h1"
    assert beat["vtep"] == "10.9.0.1"
    assert [agent["binary"] for agent in beat["agents"]] == [
        "neutron-linuxbridge-agent", "neutron-dhcp-agent", "neutron-l3-agent", "neutron-metadata-agent",
    ]


def test_the_owner_of_an_address_is_found_by_router_or_by_network(host) -> None:
    keeper, _, controller = host
    owner = MetadataOwner(ip="10.1.0.5", port_id="p", device_id="server", project_id="t")
    network = dataclasses.replace(a_network(), metadata=(owner,))
    other = dataclasses.replace(a_network(1), metadata=(dataclasses.replace(owner, device_id="another"),))
    router = RouterItem(id=new_id(), interfaces=(an_interface(network),))
    controller.answer = lambda since: Desired(version=1, full=True, networks=(network, other), routers=(router,))
    keeper.start()
    controller.wait(lambda: bool(controller.reports))
    assert keeper.owner("router", router.id, "10.1.0.5") == owner
    assert keeper.owner("network", other.id, "10.1.0.5").device_id == "another"
    assert keeper.owner("network", network.id, "10.1.0.6") is None
    assert keeper.owner("router", new_id(), "10.1.0.5") is None


def test_a_host_without_the_role_network_is_heard_as_one_that_attaches_ports(tmp_path) -> None:
    bus = LocalBus("test")
    controller = Controller(bus)
    Keeper("h1", FakeDriver(Settings(home=tmp_path, host="h1")), bus, wires_only=True).heartbeat()
    assert [agent["agent_type"] for agent in controller.beats[0]["agents"]] == ["Linux bridge agent"]


def test_addresses_of_routers_are_announced_again_by_who_is_heard_alone(host) -> None:
    keeper, driver, controller = host
    network = a_network()
    router = RouterItem(id=new_id(), interfaces=(an_interface(network),))
    controller.answer = lambda since: Desired(version=1, full=not since, networks=(network,), routers=(router,)) if not since else Desired(version=1)
    keeper.start()
    controller.wait(lambda: bool(controller.reports))
    assert driver.announced == [router.id]
    controller.reports.clear()
    keeper.want_compare()
    controller.wait(lambda: bool(controller.reports))
    assert driver.announced == [router.id] * 2

    def refuse(_since: int) -> Desired:
        raise RuntimeError("the controller is cut off")

    controller.answer = refuse
    before, asked = len(driver.announced), len(controller.asked)
    keeper.want_pull()
    controller.wait(lambda: len(controller.asked) > asked)
    controller.reports.clear()
    keeper.want_compare()
    controller.wait(lambda: any(report["complete"] for report in controller.reports))
    assert len(driver.announced) == before, "another may have them by now"
