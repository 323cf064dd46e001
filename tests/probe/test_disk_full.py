"""The disk below a cloud is full: what cannot be kept is refused, what was acknowledged stays, and with new room all goes on.

The home lies on a small file system of memory, which only this module's sandbox sees.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pileus.clients.base import PeerError
from pileus.kernel import ids
from pileus.kernel.errors import Failure

from tests.probe.probed import Probed, patiently, wait_until
from tools.cloud import Cloud

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
MIB = 1 << 20


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probed]:
    disk = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=700", "tmpfs", str(disk)], check=True)
    cloud = Cloud(disk / "home")
    try:
        cloud.up()
        yield Probed(cloud)
    finally:
        fill(disk, None)
        cloud.pileus("down", "--guests", check=False)
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def disk(small: Probed) -> Iterator[Path]:
    yield small.home.parent
    fill(small.home.parent, None)


def fill(disk: Path, leave: int | None) -> None:
    """Leave so many bytes free; None takes the filler away."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    if leave is None:
        return
    with filler.open("wb") as file:
        while True:
            try:
                os.posix_fallocate(file.fileno(), 0, free(disk) - leave)
                return
            except OSError as error:  # a log has grown meanwhile
                if error.errno != errno.ENOSPC:
                    raise


def free(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


def new_image(probed: Probed) -> str:
    image = probed.session.clients.image(probed.session.context)
    return str(image.post("/v2/images", {"name": "big", "disk_format": "raw", "container_format": "bare"})["id"])


def upload(probed: Probed, image_id: str, size: int) -> None:
    pieces = (bytes(MIB) for _ in range(size // MIB))
    image = probed.session.clients.image(probed.session.context)
    image.request("PUT", f"/v2/images/{image_id}/file", pieces, headers={"Content-Type": "application/octet-stream"}).read()


def image_files(probed: Probed) -> set[str]:
    return {str(path.relative_to(probed.home)) for path in (probed.home / "images").rglob("*") if path.is_file()}


@pytest.mark.parametrize("leave", [4 * MIB, 0])
def test_an_image_that_has_no_room_is_refused_and_leaves_nothing(small, disk, leave):
    before, image_id = image_files(small), new_image(small)
    image = small.session.clients.image(small.session.context)
    fill(disk, leave)
    with pytest.raises(PeerError) as refused:
        upload(small, image_id, 24 * MIB)
    assert refused.value.status in {413, 503}, refused.value.message
    assert refused.value.message
    assert image_files(small) == before
    assert image.get("/v2/images")["images"], "the service goes on"
    fill(disk, None)
    wait_until(lambda: image.get(f"/v2/images/{image_id}")["status"] == "queued", "the image can be filled again", 90)
    upload(small, image_id, 24 * MIB)
    assert image.get(f"/v2/images/{image_id}")["status"] == "active"
    assert image.get(f"/v2/images/{image_id}")["size"] == 24 * MIB
    image.delete(f"/v2/images/{image_id}")
    wait_until(lambda: image_files(small) == before, "the data is removed")


def test_what_was_acknowledged_on_a_full_disk_is_kept_and_the_rest_refused_with_a_sentence(small, disk):
    network = small.session.clients.network(small.session.context)
    fill(disk, 0)
    kept, refused = [], []
    for number in range(400):
        try:
            kept.append(network.post("/v2.0/networks", {"network": {"name": f"full-{number}"}})["network"]["id"])
        except Failure as failure:
            refused.append(failure)
            if len(refused) == 5:
                break
        if number % 20 == 19:
            fill(disk, 0)  # what the databases freed meanwhile
    assert refused, "the disk is not full"
    assert {failure.status for failure in refused} <= {500, 503}
    assert all(failure.message.endswith(")") and "request req-" in failure.message for failure in refused), refused[0].message
    listed = {entry["id"] for entry in network.get("/v2.0/networks")["networks"]}
    assert listed >= set(kept), "reading goes on"
    fill(disk, None)
    listed = {entry["name"] for entry in network.get("/v2.0/networks")["networks"] if entry["name"].startswith("full-")}
    assert len(listed) == len(kept)
    for network_id in kept:
        network.delete(f"/v2.0/networks/{network_id}")
    for service in ("identity", "placement", "image", "network", "compute"):
        assert small.rows(service, "PRAGMA integrity_check") == [("ok",)]


def test_processes_that_die_on_a_full_disk_are_back_when_there_is_room(small, disk):
    supervisor, worker = small.pid("supervisor"), small.pid("api-0")
    assert Path(f"/proc/{worker}").exists(), "no process has died on the full disk by itself"
    fill(disk, 0)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the worker is dead")
    patiently(lambda: small.session.clients.network(small.session.context).get("/v2.0/networks"))
    fill(disk, None)
    wait_until(lambda: small.pid("api-0") not in {0, worker}, "the worker is back")
    assert small.pid("supervisor") == supervisor, "the supervisor lived on"


def test_servers_are_built_again_when_there_is_room(small, disk):
    compute = small.session.clients.compute(small.session.context)
    image = small.session.clients.image(small.session.context).get("/v2/images", query={"name": "guest"})["images"][0]["id"]
    body = {"name": ids.new_id(), "imageRef": image, "flavorRef": "42", "networks": "none"}
    headers = {"OpenStack-API-Version": "compute 2.37"}
    fill(disk, 16 * 1024)
    made = []
    for _ in range(3):
        try:
            made.append(compute.post("/v2.1/servers", {"server": body}, headers=headers)["server"]["id"])
        except Failure as failure:
            assert failure.status >= 500
    fill(disk, None)
    services = lambda: compute.get("/v2.1/os-services", query={"binary": "nova-compute"})["services"]  # noqa: E731
    wait_until(lambda: all(service["state"] == "up" for service in services()), "the host reports again")
    last = compute.post("/v2.1/servers", {"server": body}, headers=headers)["server"]["id"]
    show = lambda server: compute.get(f"/v2.1/servers/{server}")["server"]  # noqa: E731
    for server in [*made, last]:
        why = lambda: small.why([{"id": i} for i in [*made, last]])  # noqa: E731
        wait_until(lambda server=server: show(server)["status"] in {"ACTIVE", "ERROR"}, "every server that was accepted has an end", 90, explain=why)
        assert show(server)["status"] == "ACTIVE" or (server != last and show(server)["fault"]["message"]), why()
        compute.delete(f"/v2.1/servers/{server}")
    wait_until(lambda: small.traces()["servers"] == [(0,)], "every server is gone")
