"""Real guests move between two hosts: the API and the flows here, agents with libvirt on test hosts, disks and memory over the wire between them."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pileus.compute.loops.providers import providers
from pileus.compute.store.tables import SERVICES
from pileus.compute.wire import HostResources, Report
from pileus.kernel.bus import RemoteError
from pileus.kernel.testing import ADMIN
from tests.api.compute.world import World
from tests.sandbox import TOP, Underlay

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root"), pytest.mark.timeout(580)]

IMAGE = TOP / ".build/guest/guest.qcow2"
SECONDS = 240.0
COUNTING = "#!/bin/sh\n(i=0; while true; do i=$((i+1)); echo COUNT $i; echo $i > /counted; sleep 0.1; done) > /dev/ttyS0 &\n"


class Host:
    """A test host with its agent."""

    def __init__(self, sandbox: Any, name: str, address: str, home: str) -> None:
        self.name = name
        self.path = sandbox.dir / "agent.sock"
        argv = [sys.executable, "-m", "tests.guest.agent_by_hand", name, address, home, str(self.path), str(IMAGE)]
        self.process = sandbox.popen(argv, cwd=TOP)
        wait(f"{name} is ready", self.path.exists, self.process)

    def ask(self, method: str, payload: dict[str, Any] | None = None) -> Any:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
            way.settimeout(120)
            way.connect(str(self.path))
            with way.makefile("rwb") as stream:
                stream.write(json.dumps({"method": method, "payload": payload or {}}).encode() + b"\n")
                stream.flush()
                answer = json.loads(stream.readline())
        if "error" in answer:
            raise RemoteError(*answer["error"])
        return answer["result"]

    def console(self, server_id: str) -> str:
        return self.ask("compute.console", {"id": server_id, "length": None})["output"]


def wait(what: str, condition: Callable[[], bool], process: Any = None) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process is None or process.poll() is None, f"{what}: {process.stderr.read() if process.stderr else ''}"
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.1)


class Cloud(World):
    """Compute with two such hosts."""

    def __init__(self, underlay: Underlay) -> None:
        super().__init__(hosts=0)
        self.images.images.clear()
        self.real = {}
        for number, sandbox in enumerate(underlay.hosts, 1):
            # Homes differ, as they may.
            host = Host(sandbox, f"host{number}", f"10.9.0.{number}", f"/var/lib/pileus{number}")
            self.real[host.name] = host
            names = ["compute." + word for word in (
                "prepare create resume destroy power console state offer withdraw receive received send abort_send hurry_send keep_copy restore_copy drop_copy nudge"
            ).split()]
            self.bus.serve(f"agent.{host.name}", {name: self._method(host, name) for name in names})
            resources = HostResources.from_dict(host.ask("resources"))
            told = Report(host=host.name, version=0, states={}, resources=resources, seconds=10.0)
            self.client.call("compute.report", told.to_dict())
        providers(self.service)
        self.flavor(ram=128, disk=1)
        self.flavor("large", ram=160, disk=2, vcpus=2)

    @staticmethod
    def _method(host: Host, name: str) -> Callable[[dict[str, Any]], Any]:
        return lambda payload: host.ask(name, payload)

    def until(self, server_id: str, status: str) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while (server := self.server(server_id))["status"] != status or server["OS-EXT-STS:task_state"]:
            assert server["status"] != "ERROR", server["fault"]
            assert time.monotonic() < deadline, server
            self.client.run_flows()
            self.plug()
            self.later()
            time.sleep(0.1)
        return server

    def where(self, server_id: str) -> tuple[Host, Host]:
        """The host that has the server, and the other one."""
        name = self.server(server_id)["OS-EXT-SRV-ATTR:host"]
        return self.real[name], next(host for host in self.real.values() if host.name != name)


@pytest.fixture
def cloud(hosts: Callable[[int], Underlay]) -> Iterator[Cloud]:
    made = Cloud(hosts(2))
    made.images.images[IMAGE_ID] = made.images.image(IMAGE_ID, "active", size=IMAGE.stat().st_size, os_hash_algo=None, os_hash_value=None)
    made.images.images[IMAGE_ID]["checksum"] = None
    yield made
    made.close()


IMAGE_ID = "11111111-1111-4111-8111-111111111111"


def counts(console: str) -> list[int]:
    return [int(number) for number in re.findall(r"COUNT (\d+)\r?\n", console)]


def boot(cloud: Cloud, user_data: str) -> str:
    encoded = base64.b64encode(user_data.encode()).decode()
    server_id = cloud.boot(settle=False, user_data=encoded, config_drive=True)
    cloud.until(server_id, "ACTIVE")
    return str(server_id)


def test_a_guest_goes_on_counting_through_a_live_migration(cloud: Cloud) -> None:
    server_id = boot(cloud, COUNTING)
    source, destination = cloud.where(server_id)
    wait("the guest counts", lambda: len(counts(source.console(server_id))) > 20)
    cloud.act(server_id, "os-migrateLive", {"host": None, "block_migration": "auto"}, as_=ADMIN, settle=False)
    last: list[int] = []
    server = cloud.server(server_id)
    assert server["status"] == "MIGRATING"
    while cloud.server(server_id)["OS-EXT-STS:task_state"]:
        if source.ask("compute.state", {"id": server_id})["power_state"] == "running":
            last = counts(source.console(server_id)) or last
        cloud.client.run_flows()
        cloud.plug()
        cloud.later()
    server = cloud.server(server_id)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", destination.name), server
    seen = len(counts(destination.console(server_id)))
    wait("it goes on", lambda: len(counts(destination.console(server_id))) > seen + 20)
    after = counts(destination.console(server_id))
    assert after[0] >= last[-1], "it did not begin again"
    assert after == list(range(after[0], after[-1] + 1)), "it lost no step"
    assert destination.ask("states") == {server_id: "running"}
    assert source.ask("states") == {}
    assert source.ask("files", {"id": server_id}) == []
    for host in (source, destination):
        assert not [line for line in host.ask("listening") if "qemu-system" not in line], "nothing listens on a network any more"
    job = destination.ask("job", {"id": server_id})
    print("downtime", job.get("downtime"), "ms, time", job.get("time_elapsed"), "ms, memory", job.get("memory_processed"), "disk", job.get("disk_processed"))
    # and back, then a power cycle: the definition that it took along is whole
    cloud.act(server_id, "os-migrateLive", {"host": source.name, "block_migration": "auto"}, as_=ADMIN, settle=False)
    cloud.until(server_id, "ACTIVE")
    assert cloud.server(server_id)["OS-EXT-SRV-ATTR:host"] == source.name
    cloud.act(server_id, "reboot", {"type": "HARD"}, settle=False)
    cloud.until(server_id, "ACTIVE")
    wait("it boots from its disk", lambda: "GUEST: ready" in source.console(server_id))


def test_a_guest_takes_its_disk_along_and_back(cloud: Cloud) -> None:
    server_id = boot(cloud, COUNTING)
    source, destination = cloud.where(server_id)
    wait("the guest counts", lambda: len(counts(source.console(server_id))) > 5)
    cloud.act(server_id, "migrate", None, as_=ADMIN, settle=False)
    cloud.until(server_id, "VERIFY_RESIZE")
    assert destination.ask("states") == {server_id: "running"}
    assert source.ask("states") == {server_id: "missing"}
    wait("it boots there", lambda: "GUEST: ready" in destination.console(server_id))
    assert not [line for line in source.ask("listening") if "python" in line], "nothing listens any more"
    cloud.act(server_id, "revertResize", settle=False)
    cloud.until(server_id, "ACTIVE")
    assert source.ask("states") == {server_id: "running"}
    assert destination.ask("states") == {}
    cloud.act(server_id, "migrate", {"host": destination.name}, as_=ADMIN, settle=False)
    cloud.until(server_id, "VERIFY_RESIZE")
    cloud.act(server_id, "confirmResize", ok=204, settle=False)
    cloud.until(server_id, "ACTIVE")
    assert source.ask("files", {"id": server_id}) == []


def test_a_server_grows_on_its_only_host_and_comes_back(cloud: Cloud) -> None:
    server_id = boot(cloud, COUNTING)
    source, destination = cloud.where(server_id)
    disk = source.ask("disk", {"id": server_id})
    with cloud.service.db.write() as conn:
        conn.execute(SERVICES.update().where(SERVICES.c.host == destination.name).values(forced_down=True))
    cloud.act(server_id, "resize", {"flavorRef": "large"}, settle=False)
    cloud.until(server_id, "VERIFY_RESIZE")
    assert source.ask("disk", {"id": server_id}) == 2 << 30 > disk
    assert "before" in source.ask("files", {"id": server_id})
    cloud.act(server_id, "revertResize", settle=False)
    cloud.until(server_id, "ACTIVE")
    assert source.ask("disk", {"id": server_id}) == disk
    assert "before" not in source.ask("files", {"id": server_id})
    assert source.ask("states") == {server_id: "running"}
