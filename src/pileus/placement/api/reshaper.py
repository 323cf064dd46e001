"""Reshaping: inventories and allocations move between providers at once."""

from __future__ import annotations

from pileus.kernel.web import Call, Operations
from pileus.placement.api.allocations import MANY, read_change
from pileus.placement.api.common import UUID_KEY
from pileus.placement.api.inventories import SET, read_set
from pileus.placement.logic import allocations as logic

operations = Operations()

_BODIES = [
    (
        since,
        {
            "type": "object",
            "properties": {
                "inventories": {"type": "object", "patternProperties": {UUID_KEY: SET}, "additionalProperties": False},
                "allocations": allocations,
            },
            "required": ["inventories", "allocations"],
            "additionalProperties": False,
        },
    )
    for since, allocations in MANY.items()
]


@operations("POST", "/reshaper", rule="placement:reshaper:reshape", status=204, versions="1.30-", body=_BODIES)
def reshape(call: Call) -> None:
    """Change the inventories of several providers together with what is allocated from them."""
    stocks = [
        logic.NewStock(uuid, given["resource_provider_generation"], read_set(call, uuid, given["inventories"]))
        for uuid, given in call.body["inventories"].items()
    ]
    changes = [read_change(call, consumer, body) for consumer, body in call.body["allocations"].items()]
    logic.reshape(call.service, stocks, changes)
