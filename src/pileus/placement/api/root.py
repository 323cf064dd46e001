"""The version document, for everybody."""

from __future__ import annotations

from pileus.kernel.web import Call, Microversions, Operations, Reply
from pileus.placement.api.common import fresh, prefix

MICROVERSIONS = Microversions(service="placement", min=(1, 0), max=(1, 39))

operations = Operations()


@operations("GET", "/", public="the version document", summary="Show which microversions are served")
def show_versions(call: Call) -> Reply:
    version = {
        "id": "v1.0",
        "max_version": "1.39",
        "min_version": "1.0",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": prefix(call)}],
    }
    return fresh(call, {"versions": [version]})
