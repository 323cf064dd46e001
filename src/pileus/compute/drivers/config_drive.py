"""The config drive: an ISO 9660 image labelled `config-2` with the metadata a guest may read, in OpenStack's and EC2's layout.

Every dated directory shows the documents as that format version has them, so that old clients find what they know; `latest` is the newest.
"""

from __future__ import annotations

import base64
import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from pileus.compute.wire import GuestMetadata
from pileus.host.run import run

VERSIONS = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
)
EC2_VERSIONS = ("2009-04-04", "latest")

_KEY_SINCE = {
    "random_seed": "2013-04-04",
    "project_id": "2015-10-15",
    "devices": "2016-06-30",
    "dedicated_cpus": "2020-10-14",
}
_FILE_SINCE = {
    "vendor_data.json": "2013-10-17",
    "network_data.json": "2015-10-15",
    "vendor_data2.json": "2016-10-06",
}


def write(path: pathlib.Path, metadata: GuestMetadata) -> None:
    """Make the image at `path` (mode 0600), replacing what is there in one step."""
    with tempfile.TemporaryDirectory(prefix="pileus-config-") as tree:
        for name, content in contents(metadata):
            target = pathlib.Path(tree, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        temporary = path.with_name(path.name + ".new")
        run(["genisoimage", "-quiet", "-J", "-r", "-l", "-V", "config-2", "-o", str(temporary), tree])
        temporary.chmod(0o600)
        temporary.replace(path)


def contents(metadata: GuestMetadata) -> Iterator[tuple[str, bytes]]:
    """Every file of the drive, by path."""
    user_data = None if metadata.user_data is None else base64.b64decode(metadata.user_data)
    files = {
        "vendor_data.json": metadata.vendor_data,
        "network_data.json": metadata.network_data,
        "vendor_data2.json": metadata.vendor_data2,
    }
    for version in VERSIONS:
        base = f"openstack/{version}/"
        shown = {key: value for key, value in metadata.meta_data.items() if _KEY_SINCE.get(key, "") <= version}
        yield base + "meta_data.json", _json(shown)
        if user_data is not None:
            yield base + "user_data", user_data
        for name, document in files.items():
            if _FILE_SINCE[name] <= version:
                yield base + name, _json(document)
    ec2 = metadata.ec2 or _ec2(metadata.meta_data)
    for version in EC2_VERSIONS:
        yield f"ec2/{version}/meta-data.json", _json(ec2)
        if user_data is not None:
            yield f"ec2/{version}/user-data", user_data
    for name, encoded in metadata.files.items():
        yield f"openstack/content/{pathlib.PurePath(name).name}", base64.b64decode(encoded)


def _ec2(meta_data: dict[str, Any]) -> dict[str, Any]:
    """The part of EC2's document that follows from OpenStack's."""
    hostname = meta_data.get("hostname", "")
    document: dict[str, Any] = {
        "instance-id": meta_data.get("uuid", ""),
        "hostname": hostname,
        "local-hostname": hostname,
        "ami-launch-index": meta_data.get("launch_index", 0),
        "placement": {"availability-zone": meta_data.get("availability_zone", "")},
    }
    if meta_data.get("public_keys"):
        document["public-keys"] = {
            str(index): {"_name": f"{index}={name}", "openssh-key": key}
            for index, (name, key) in enumerate(meta_data["public_keys"].items())
        }
    return document


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()
