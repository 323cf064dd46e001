"""Allocation candidates: the ways in which a request for resources could be served."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations, Reply
from pileus.placement.api import queries
from pileus.placement.api.common import TEXT, fresh
from pileus.placement.logic import candidates as logic
from pileus.placement.logic.candidates import Candidate
from pileus.placement.logic.model import CandidatesRequest
from pileus.placement.logic.providers import check_names
from pileus.placement.store import snapshot
from pileus.placement.store.snapshot import Provider, Snapshot

operations = Operations()

_LIMIT = {"type": "string", "pattern": "^[1-9][0-9]*$"}
_POLICY = {"type": "string", "enum": ["none", "isolate"]}
_NUMBER = "([1-9][0-9]*)?"
_SUFFIX = "([a-zA-Z0-9_-]{1,64})?"


def _lists(kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: {"type": "array", "items": kind} for name, kind in kinds.items()}


def _plain(*names: str) -> dict[str, Any]:
    kinds = {name: _LIMIT if name == "limit" else TEXT for name in names}
    return {
        "type": "object",
        "properties": _lists(kinds),
        "required": ["resources"],
        "additionalProperties": False,
    }


def _grouped(suffix: str, *names: str, **others: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": _lists({"limit": _LIMIT, "group_policy": _POLICY, **others}),
        "patternProperties": _lists({f"^{name}{suffix}$": TEXT for name in names}),
        "additionalProperties": False,
    }


_GROUP = ("resources", "required", "member_of")
_QUERY = [
    ("1.10", _plain("resources")),
    ("1.16", _plain("resources", "limit")),
    ("1.17", _plain("resources", "limit", "required")),
    ("1.21", _plain("resources", "limit", "required", "member_of")),
    ("1.25", _grouped(_NUMBER, *_GROUP)),
    ("1.31", _grouped(_NUMBER, *_GROUP, "in_tree")),
    ("1.33", _grouped(_SUFFIX, *_GROUP, "in_tree")),
    ("1.35", _grouped(_SUFFIX, *_GROUP, "in_tree", root_required=TEXT)),
    ("1.36", _grouped(_SUFFIX, *_GROUP, "in_tree", root_required=TEXT, same_subtree=TEXT)),
]


@operations(
    "GET", "/allocation_candidates", rule="placement:allocation_candidates:list", versions="1.10-", query=_QUERY
)
def list_candidates(call: Call) -> Reply:
    """List the combinations of providers that could serve a request."""
    options = call.service.options
    request = queries.candidates_request(call.query, call.version, options.max_allocation_candidates)
    check_names(call.service, request.resource_classes(), request.traits())
    now = snapshot.current(call.service.db)
    breadth = options.allocation_candidates_generation_strategy == "breadth-first"
    found = logic.find(now, request, breadth_first=breadth)
    shown = logic.providers_to_show(now, found, nested=request.nested)
    body = {
        "allocation_requests": _requests(call, found),
        "provider_summaries": {provider.uuid: _summary(call, now, provider, request) for provider in shown},
    }
    return fresh(call, body)


def _requests(call: Call, found: list[Candidate]) -> list[dict[str, Any]]:
    if not call.at_least(1, 12):
        return [
            {
                "allocations": [
                    {"resource_provider": {"uuid": provider.uuid}, "resources": amounts}
                    for provider, amounts in candidate.allocations.items()
                ]
            }
            for candidate in found
        ]
    requests: list[dict[str, Any]] = [
        {"allocations": {provider.uuid: {"resources": amounts} for provider, amounts in candidate.allocations.items()}}
        for candidate in found
    ]
    if call.at_least(1, 34):
        for request, candidate in zip(requests, found, strict=True):
            request["mappings"] = {
                suffix: [provider.uuid for provider in providers] for suffix, providers in candidate.mappings.items()
            }
    return requests


def _summary(call: Call, now: Snapshot, provider: Provider, request: CandidatesRequest) -> dict[str, Any]:
    resources = provider.resources()
    if not call.at_least(1, 27):
        wanted = request.resource_classes()
        resources = {name: shown for name, shown in resources.items() if name in wanted}
    summary: dict[str, Any] = {"resources": resources}
    if call.at_least(1, 17):
        summary["traits"] = provider.trait_list()
    if call.at_least(1, 29):
        summary["parent_provider_uuid"] = now.parent_uuid(provider)
        summary["root_provider_uuid"] = now.root_of(provider).uuid
    return summary
