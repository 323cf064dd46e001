"""Extensions: the list that clients of the time before microversions ask for. What is listed is always there."""

from __future__ import annotations

from typing import Any

from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations

operations = Operations()

_ABOUT = {
    "extensions": "Lists what the API consists of.",
    "flavors": "Sizes that servers are made in.",
    "os-flavor-extra-specs": "Further demands of a flavor.",
    "os-flavor-access": "Projects that may use a private flavor.",
    "os-flavor-manage": "Making and removing flavors.",
    "os-keypairs": "SSH keys of users.",
    "servers": "Virtual machines.",
    "server-metadata": "Names and values of a server.",
    "ips": "Addresses of a server.",
    "limits": "What a project may use and does use.",
    "os-quota-sets": "Limits of projects.",
    "os-quota-class-sets": "Limits of projects for which none were set.",
    "os-aggregates": "Sets of hosts.",
    "os-availability-zone": "Zones that servers can be made in.",
    "os-hypervisors": "Hosts and what they have.",
    "os-services": "Parts of compute and whether they are alive.",
    "os-instance-actions": "What was done with a server.",
    "os-attach-interfaces": "Network cards of a server.",
    "os-security-groups": "Security groups of a server.",
    "os-server-groups": "Servers that stay together or apart.",
    "os-server-external-events": "What other services tell about servers.",
    "os-simple-tenant-usage": "Hours that projects used.",
    "os-console-output": "What a guest wrote to its console.",
    "os-pause-server": "Pausing servers.",
    "os-suspend-server": "Suspending servers to disk.",
    "os-lock-server": "Locking servers.",
    "os-admin-actions": "Corrections by administrators.",
    "os-server-diagnostics": "How a guest is doing.",
    "os-deferred-delete": "Deleting servers at once.",
    "os-extended-availability-zone": "The zone of a server.",
    "os-extended-server-attributes": "Where a server is, for administrators.",
    "os-extended-status": "States of a server.",
    "os-extended-volumes": "Volumes of a server.",
    "os-server-usage": "When a server was started and ended.",
    "os-config-drive": "Metadata on a drive of the guest.",
    "os-disk-config": "How the disk of a server is made.",
    "os-user-data": "Data that a guest reads at its start.",
    "os-scheduler-hints": "Hints for the choice of a host.",
    "os-multiple-create": "Several servers in one request.",
    "image-size": "Sizes of images.",
}


def _view(alias: str) -> dict[str, Any]:
    words = alias.removeprefix("os-").replace("-", " ")
    return {
        "alias": alias,
        "name": "".join(word.capitalize() for word in words.split()),
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "description": _ABOUT[alias],
        "updated": "2014-12-03T00:00:00Z",
        "links": [],
    }


@operations("GET", "/extensions", rule="os_compute_api:extensions")
def list_extensions(call: Call) -> dict[str, Any]:  # noqa: ARG001 - the same for everybody
    """List extensions"""
    return {"extensions": [_view(alias) for alias in sorted(_ABOUT)]}


@operations("GET", "/extensions/{alias}", rule="os_compute_api:extensions")
def show_extension(call: Call) -> dict[str, Any]:
    """Show an extension"""
    alias = call.params["alias"]
    if alias not in _ABOUT:
        raise NotFound(f"Could not find extension {alias}.")
    return {"extension": _view(alias)}
