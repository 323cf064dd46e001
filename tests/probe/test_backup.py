"""A cloud is backed up while it runs, destroyed, restored, and goes on: with old passwords, old tokens, the same data."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pileus.cli.session import Session, load_config
from pileus.clients.base import PeerNotFound
from pileus.kernel import clock

from tests.probe.probed import Probed, wait_until
from tools.cloud import PILEUS, Cloud, ThrowAway

DATA = os.urandom(3 << 20)


@pytest.fixture(scope="module")
def probed() -> Iterator[Probed]:
    """A cloud of this module's own, because it is destroyed in between."""
    with ThrowAway() as cloud:
        yield Probed(cloud)


def clients(probed: Probed):
    return probed.session.clients


def fill(probed: Probed) -> dict[str, str]:
    """An image, a user, a network and two servers on it."""
    context, found = probed.session.context, {}
    image = clients(probed).image(context)
    found["image"] = image.post("/v2/images", {"name": "kept", "disk_format": "raw", "container_format": "bare"})["id"]
    image.request("PUT", f"/v2/images/{found['image']}/file", DATA, headers={"Content-Type": "application/octet-stream"}).read()
    identity = clients(probed).identity(context)
    body = {"name": "kept", "domain_id": "default", "password": "a password", "default_project_id": context.project_id}
    found["user"] = identity.post("/v3/users", {"user": body})["user"]["id"]
    role = identity.get("/v3/roles", query={"name": "member"})["roles"][0]["id"]
    identity.put(f"/v3/projects/{context.project_id}/users/{found['user']}/roles/{role}")
    network = clients(probed).network(context)
    found["network"] = network.post("/v2.0/networks", {"network": {"name": "kept"}})["network"]["id"]
    network.post("/v2.0/subnets", {"subnet": {"network_id": found["network"], "ip_version": 4, "cidr": "10.8.0.0/24"}})
    for name in ("first", "second"):
        found[name] = boot(probed, name, found["image"], found["network"])
    return found


def boot(probed: Probed, name: str, image: str, network: str) -> str:
    body = {"name": name, "imageRef": image, "flavorRef": "42", "networks": [{"uuid": network}]}
    server = clients(probed).compute(probed.session.context).post("/v2.1/servers", {"server": body})["server"]["id"]
    wait_until(lambda: status(probed, server) == "ACTIVE", f"{name} is built", explain=lambda: probed.why([{"id": server}]))
    return str(server)


def status(probed: Probed, server: str) -> str:
    return str(clients(probed).compute(probed.session.context).get(f"/v2.1/servers/{server}")["server"]["status"])


def is_gone(probed: Probed, server: str) -> bool:
    try:
        status(probed, server)
    except PeerNotFound:
        return True
    return False


def inventory(probed: Probed) -> dict[str, object]:
    """Networks, ports with their addresses, servers with theirs, as the API lists them."""
    network, compute = clients(probed).network(probed.session.context), clients(probed).compute(probed.session.context)
    ports = network.get("/v2.0/ports")["ports"]
    servers = compute.get("/v2.1/servers/detail")["servers"]
    return {
        "networks": sorted((n["id"], n["name"], tuple(n["subnets"])) for n in network.get("/v2.0/networks")["networks"]),
        "ports": sorted((p["id"], p["mac_address"], str(p["fixed_ips"]), p["device_id"]) for p in ports),
        "servers": sorted((s["id"], s["name"], str(s["addresses"])) for s in servers),
    }


@pytest.mark.timeout(300)
def test_a_destroyed_cloud_comes_back_from_its_backup(probed, tmp_path):
    made = fill(probed)
    before = inventory(probed)
    token = probed.session.context.token
    file = tmp_path / "cloud.tar"
    probed.cloud.pileus("backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["cloud.tar"]
    probed.cloud.pileus("destroy", "--yes")
    assert not probed.home.exists()
    probed.cloud.pileus("restore", str(file))
    probed.cloud.up()

    identity = clients(probed).identity(probed.session.context)  # still with the token from before
    assert probed.session.context.token == token
    assert identity.get("/v3/auth/tokens", headers={"X-Subject-Token": token})["token"]["user"]["name"] == "admin"
    Session(load_config(probed.home), "demo", "demo")
    assert identity.get(f"/v3/users/{made['user']}")["user"]["name"] == "kept"
    password = {"user": {"id": made["user"], "password": "a password"}}
    login = {"auth": {"identity": {"methods": ["password"], "password": password}}}
    assert identity.post("/v3/auth/tokens", login)["token"]["user"]["id"] == made["user"]

    image = clients(probed).image(probed.session.context)
    data = image.stream(f"/v2/images/{made['image']}/file").read()
    assert hashlib.sha512(data).hexdigest() == image.get(f"/v2/images/{made['image']}")["os_hash_value"]
    assert data == DATA
    assert inventory(probed) == before

    check_servers_without_disks(probed, made)


def check_servers_without_disks(probed: Probed, made: dict[str, str]) -> None:
    """Their disks are gone: they are in error, can be built again from their image, and deleted."""
    for name in ("first", "second"):
        wait_until(lambda name=name: status(probed, made[name]) == "ERROR", f"{name} is not ACTIVE without a disk", explain=lambda: probed.why([]))
    compute = clients(probed).compute(probed.session.context)
    compute.post(f"/v2.1/servers/{made['first']}/action", {"rebuild": {"imageRef": made["image"]}})
    wait_until(lambda: status(probed, made["first"]) == "ACTIVE", "it is rebuilt", explain=lambda: probed.why([{"id": made["first"]}]))
    wait_until(lambda: made["first"] in probed.guests(), "it is a guest again")
    for name in ("first", "second"):
        compute.delete(f"/v2.1/servers/{made[name]}")
        wait_until(lambda name=name: is_gone(probed, made[name]), f"{name} is deleted", explain=lambda name=name: probed.why([{"id": made[name]}]))
    assert probed.rows("placement", "SELECT count(*) FROM allocations") == [(0,)]
    boot(probed, "third", made["image"], made["network"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_backup_leaves_no_file(probed, tmp_path, number):
    big = probed.home / "images" / "zz"  # sparse: takes a while to be copied, and no place
    with big.open("wb") as file:
        file.truncate(8 << 30)
    try:
        env = {**os.environ, **probed.cloud.settings}
        working = subprocess.Popen([PILEUS, "backup", str(tmp_path / "cloud.tar")], env=env, stderr=subprocess.PIPE)
        part = tmp_path / ".cloud.tar.part"
        wait_until(lambda: part.exists() and part.stat().st_size > 20 << 20, "it is at work")
        working.send_signal(number)
        assert working.wait(60) != 0
        assert os.listdir(tmp_path) == []
        assert not list(probed.home.glob("tmp*"))
    finally:
        big.unlink()


def test_a_restore_into_a_home_that_is_not_empty_is_refused(probed, tmp_path):
    file = tmp_path / "cloud.tar"
    probed.cloud.pileus("backup", str(file))
    answer = probed.cloud.pileus("restore", str(file), check=False)
    assert answer.returncode == 1
    assert "not empty" in answer.stderr
    other = Cloud(tmp_path / "other")
    other.home.mkdir()
    (other.home / "pileus.toml").write_text("[api]\nport = 5001\n")
    assert other.pileus("restore", str(file), check=False).returncode == 1
    assert os.listdir(other.home) == ["pileus.toml"]


def member(name: str, **changes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


TRICKS = {
    "upwards": member("../escaped"),
    "upwards inside": member("keys/../../escaped"),
    "absolute": member("/escaped"),
    "symlink": member("keys/link", type=tarfile.SYMTYPE, linkname="/"),
    "symlink of a folder": member("images", type=tarfile.SYMTYPE, linkname="../.."),
    "hard link": member("keys/hard", type=tarfile.LNKTYPE, linkname="../../escaped"),
    "device": member("keys/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "unknown place": member("bin/sh"),
    "unknown file": member("other.toml"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_an_archive_with_a_path_that_no_backup_has_is_refused(tmp_path, trick):
    file, home = tmp_path / "bad.tar", tmp_path / "deep" / "home"
    with tarfile.open(file, "w") as tar:
        manifest = json.dumps({"format": 1, "taken_at": clock.iso(clock.utcnow()), "services": []}).encode()
        tar.addfile(member("manifest.json", size=len(manifest)), io.BytesIO(manifest))
        tar.addfile(member("keys/fernet/0", size=4), io.BytesIO(b"good"))
        tar.addfile(TRICKS[trick], io.BytesIO(b""))
    answer = Cloud(home).pileus("restore", str(file), check=False)
    assert answer.returncode == 1
    assert repr(TRICKS[trick].name) in answer.stderr
    assert "Nothing was restored" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not home.exists() or os.listdir(home) == []
    assert sorted(p.name for p in tmp_path.rglob("*")) in (["bad.tar", "deep", "home"], ["bad.tar"])


@pytest.mark.parametrize("content", [b"", b"no archive" * 1000])
def test_a_file_that_is_no_backup_is_refused(tmp_path, content):
    (tmp_path / "bad.tar").write_bytes(content)
    answer = Cloud(tmp_path / "home").pileus("restore", str(tmp_path / "bad.tar"), check=False)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "not a backup" in answer.stderr


def test_a_backup_that_was_cut_off_is_refused(probed, tmp_path):
    file = tmp_path / "cloud.tar"
    probed.cloud.pileus("backup", str(file))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    home = tmp_path / "home"
    answer = Cloud(home).pileus("restore", str(file), check=False)
    assert answer.returncode == 1, Path(home).exists()
    assert os.listdir(home) == []
