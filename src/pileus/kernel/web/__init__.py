"""The web layer: operations are declared once; routing, versions, validation, policy and faults follow from there."""

from pileus.kernel.web.call import Call, Query, Reply
from pileus.kernel.web.microversions import Microversions
from pileus.kernel.web.operations import Operation, Operations

__all__ = ["Call", "Microversions", "Operation", "Operations", "Query", "Reply"]
