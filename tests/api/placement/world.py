"""Placement in a test: an empty service, spoken to as admin at the newest microversion unless said otherwise."""

from __future__ import annotations

import uuid
from typing import Any

from pileus.kernel.testing import ADMIN, Response, make_client
from pileus.placement.room import ROOM


class Placement:
    def __init__(self, **options: Any) -> None:
        self.client = make_client(ROOM, **options)
        self.service = self.client.service

    def __call__(
        self, method: str, path: str, json: Any = None, *, v: str = "1.39", as_: Any = ADMIN, ok: int | None = None
    ) -> Response:
        response = self.client.request(
            method, path, json=json, headers={"OpenStack-API-Version": f"placement {v}"}, as_=as_
        )
        assert ok is None or response.status == ok, response.text
        return response

    def provider(self, name: str, parent: str | None = None, traits: Any = (), aggregates: Any = (), **stock: Any) -> str:
        """A provider; `VCPU=8` or `VCPU={"total": 8, ...}` are its inventories."""
        key = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self("POST", "/resource_providers", {"name": name, "uuid": key, "parent_provider_uuid": parent}, ok=200)
        rows = {c: amount if isinstance(amount, dict) else {"total": amount} for c, amount in stock.items()}
        self.put(key, "inventories", {"inventories": rows})
        if traits:
            self.put(key, "traits", {"traits": list(traits)})
        if aggregates:
            self.put(key, "aggregates", {"aggregates": list(aggregates)})
        return key

    def put(self, provider: str, what: str, body: dict[str, Any]) -> Response:
        generation = self.generation(provider)
        return self(
            "PUT", f"/resource_providers/{provider}/{what}", {"resource_provider_generation": generation, **body}, ok=200
        )

    def generation(self, provider: str) -> int:
        return self("GET", f"/resource_providers/{provider}", ok=200).json["generation"]

    def claim(self, consumer: str, allocations: Any, generation: int | None = None, ok: int | None = 204) -> Response:
        return self("PUT", f"/allocations/{consumer}", self.body(generation, allocations), ok=ok)

    @staticmethod
    def body(generation: int | None, allocations: dict[str, dict[str, int]], kind: str = "INSTANCE") -> dict[str, Any]:
        return {
            "allocations": {key: {"resources": amounts} for key, amounts in allocations.items()},
            "consumer_generation": generation,
            "project_id": "project",
            "user_id": "user",
            "consumer_type": kind,
        }

    def candidates(self, query: str, v: str = "1.39") -> list[dict[str, dict[str, int]]]:
        """Each candidate as amounts by provider UUID."""
        found = self("GET", f"/allocation_candidates?{query}", v=v, ok=200).json["allocation_requests"]
        return [{key: part["resources"] for key, part in one["allocations"].items()} for one in found]

    def used(self, provider: str) -> dict[str, int]:
        return self("GET", f"/resource_providers/{provider}/usages", ok=200).json["usages"]


def code(response: Response) -> str:
    return response.json["errors"][0]["code"]


def new() -> str:
    return str(uuid.uuid4())
