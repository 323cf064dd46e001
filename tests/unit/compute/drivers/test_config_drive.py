"""The config drive as a guest reads it."""

from __future__ import annotations

import base64
import json
import pathlib
import subprocess

import pytest

from pileus.compute.drivers import config_drive
from pileus.compute.wire import GuestMetadata

METADATA = GuestMetadata(
    meta_data={"uuid": "u1", "hostname": "vm.local", "public_keys": {"k": "ssh-ed25519 A"}, "random_seed": "cw==", "project_id": "p",
               "devices": [], "dedicated_cpus": [], "launch_index": 2, "availability_zone": "nova"},
    user_data=base64.b64encode(b"#!/bin/sh\n\xff").decode(),
    network_data={"links": []},
    vendor_data={"a": 1},
    vendor_data2={"b": 2},
    files={"0000": base64.b64encode(b"file").decode()},
)


@pytest.fixture
def files() -> dict[str, bytes]:
    return dict(config_drive.contents(METADATA))


def test_the_newest_documents_are_complete(files: dict[str, bytes]) -> None:
    assert json.loads(files["openstack/latest/meta_data.json"]) == METADATA.meta_data
    assert files["openstack/latest/user_data"] == b"#!/bin/sh\n\xff"
    assert json.loads(files["openstack/latest/network_data.json"]) == {"links": []}
    assert json.loads(files["openstack/latest/vendor_data.json"]) == {"a": 1}
    assert json.loads(files["openstack/latest/vendor_data2.json"]) == {"b": 2}
    assert files["openstack/content/0000"] == b"file"


def test_old_versions_have_what_they_had_then(files: dict[str, bytes]) -> None:
    oldest = json.loads(files["openstack/2012-08-10/meta_data.json"])
    assert not {"random_seed", "project_id", "devices", "dedicated_cpus"} & set(oldest)
    assert "random_seed" in json.loads(files["openstack/2013-04-04/meta_data.json"])
    assert "project_id" in json.loads(files["openstack/2015-10-15/meta_data.json"])
    assert "dedicated_cpus" not in json.loads(files["openstack/2018-08-27/meta_data.json"])
    assert "openstack/2013-04-04/vendor_data.json" not in files
    assert "openstack/2013-10-17/network_data.json" not in files
    assert "openstack/2015-10-15/vendor_data2.json" not in files
    assert "openstack/2012-08-10/user_data" in files


def test_ec2_documents_follow_from_openstacks(files: dict[str, bytes]) -> None:
    document = json.loads(files["ec2/latest/meta-data.json"])
    assert document["instance-id"] == "u1"
    assert document["local-hostname"] == "vm.local"
    assert document["ami-launch-index"] == 2
    assert document["public-keys"] == {"0": {"_name": "0=k", "openssh-key": "ssh-ed25519 A"}}
    assert files["ec2/2009-04-04/user-data"] == b"#!/bin/sh\n\xff"


def test_without_user_data_there_is_no_file_of_it() -> None:
    names = {name for name, _ in config_drive.contents(GuestMetadata(meta_data={}))}
    assert not any("user" in name for name in names)


def test_the_image_is_labelled_private_and_readable(tmp_path: pathlib.Path, files: dict[str, bytes]) -> None:
    path = tmp_path / "disk.config"
    config_drive.write(path, METADATA)
    config_drive.write(path, METADATA)
    assert path.stat().st_mode & 0o777 == 0o600
    described = subprocess.run(["isoinfo", "-d", "-i", path], capture_output=True, text=True, check=True).stdout
    assert "Volume id: config-2" in described
    for name in ("openstack/latest/meta_data.json", "openstack/2020-10-14/user_data", "openstack/content/0000"):
        read = subprocess.run(["isoinfo", "-J", "-i", path, "-x", "/" + name], capture_output=True, check=True).stdout
        assert read == files[name]
