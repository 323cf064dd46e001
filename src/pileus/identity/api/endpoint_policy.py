"""Policy blobs of endpoints: OS-ENDPOINT-POLICY below /v3/policies and /v3/endpoints."""

from __future__ import annotations

from typing import Any

from pileus.identity.api import render
from pileus.identity.logic import endpoint_policy
from pileus.identity.store.endpoint_policy import Subject
from pileus.kernel.web import Call, Operations

from .common import collection
from .policies import shown

operations = Operations()

_POLICY = "/policies/{policy_id}/OS-ENDPOINT-POLICY"
_SUBJECTS = (
    (f"{_POLICY}/endpoints/{{endpoint_id}}", "endpoint", "an endpoint"),
    (f"{_POLICY}/services/{{service_id}}", "service", "a service"),
    (f"{_POLICY}/services/{{service_id}}/regions/{{region_id}}", "region_and_service", "a service in a region"),
)


def _subject(call: Call) -> Subject:
    return Subject(**{name: value for name, value in call.params.items() if name != "policy_id"})


def check_association(call: Call) -> None:
    endpoint_policy.check(call.service, call.params["policy_id"], _subject(call))


def create_association(call: Call) -> None:
    endpoint_policy.associate(call.service, call.params["policy_id"], _subject(call))


def delete_association(call: Call) -> None:
    endpoint_policy.dissociate(call.service, call.params["policy_id"], _subject(call))


for _path, _name, _words in _SUBJECTS:
    for _method, _verb, _act, _summary in (
        ("GET", "check", check_association, "Check that a policy is associated with"),
        ("PUT", "create", create_association, "Associate a policy with"),
        ("DELETE", "delete", delete_association, "Dissociate a policy from"),
    ):
        _rule = f"identity:{_verb}_policy_association_for_{_name}"
        operations(_method, _path, rule=_rule, status=204, summary=f"{_summary} {_words}")(_act)


@operations("GET", f"{_POLICY}/endpoints", rule="identity:list_endpoints_for_policy", summary="List the endpoints of a policy")
def list_endpoints(call: Call) -> dict[str, Any]:
    rows = endpoint_policy.endpoints_of(call.service, call.params["policy_id"])
    return collection(call, "endpoints", rows, render.endpoints(call))


@operations(
    "GET",
    "/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy",
    rule="identity:get_policy_for_endpoint",
    summary="Show the policy of an endpoint",
)
def show_policy(call: Call) -> dict[str, Any]:
    return {"policy": shown(call, endpoint_policy.policy_of(call.service, call.params["endpoint_id"]))}
