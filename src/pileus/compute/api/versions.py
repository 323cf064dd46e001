"""Version documents of compute, for everybody."""

from __future__ import annotations

from typing import Any

from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Microversions, Operations

MICROVERSIONS = Microversions(service="compute", min=(2, 1), max=(2, 96), legacy="X-OpenStack-Nova-API-Version")

operations = Operations()

_PUBLIC = "version documents are for everybody"


def _document(call: Call, *, alone: bool) -> dict[str, Any]:
    links = [{"rel": "self", "href": call.root_link("/v2.1/")}]
    document: dict[str, Any] = {
        "id": "v2.1",
        "status": "CURRENT",
        "version": f"{MICROVERSIONS.max[0]}.{MICROVERSIONS.max[1]}",
        "min_version": f"{MICROVERSIONS.min[0]}.{MICROVERSIONS.min[1]}",
        "updated": "2013-07-23T11:33:21Z",
        "links": links,
    }
    if alone:
        links.append({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"})
        document["media-types"] = [
            {"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}
        ]
    return document


@operations("GET", "/", root=True, public=_PUBLIC)
def list_versions(call: Call) -> dict[str, Any]:
    """List the versions of the API"""
    return {"versions": [_document(call, alone=False)]}


@operations("GET", "/v2.1", root=True, public=_PUBLIC)
def show_version(call: Call) -> dict[str, Any]:
    """Show version 2.1 of the API"""
    return {"version": _document(call, alone=True)}


@operations("GET", "/versions/{version_id}", root=True, public=_PUBLIC)
def show_version_by_id(call: Call) -> dict[str, Any]:
    """Show a version of the API by its id"""
    if call.params["version_id"] not in {"v2.1", "2.1"}:
        raise NotFound("The resource could not be found.")
    return {"version": _document(call, alone=True)}
