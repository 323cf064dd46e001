"""EC2 credentials of a user: /v3/users/{user_id}/credentials/OS-EC2. They are credentials of type `ec2`."""

from __future__ import annotations

from typing import Any

from pileus.identity.errors import not_found
from pileus.identity.logic import application_credentials, credentials
from pileus.identity.logic.credentials import Ec2
from pileus.kernel.web import Call, Operations

from .common import collection, permit

operations = Operations()

_ALL = "/users/{user_id}/credentials/OS-EC2"
_ONE = _ALL + "/{access}"
_BODY = {
    "type": "object",
    "properties": {"tenant_id": {"type": "string", "minLength": 1, "maxLength": 64}},
    "required": ["tenant_id"],
    "additionalProperties": False,
}


def _shown(call: Call, key: Ec2) -> dict[str, Any]:
    return {
        "user_id": key.user_id,
        "tenant_id": key.project_id,
        "access": key.access,
        "secret": key.secret,
        "trust_id": None,
        "links": {"self": call.link(f"/users/{key.user_id}/credentials/OS-EC2/{key.access}")},
    }


@operations("GET", _ALL, rule="identity:ec2_list_credentials", summary="List the EC2 credentials of a user")
def list_ec2(call: Call) -> dict[str, Any]:
    application_credentials.check_not_delegated(call.service, call.context)
    keys = credentials.ec2_of(call.service, call.params["user_id"])
    return {"credentials": [_shown(call, key) for key in keys], "links": collection(call, "x", [], dict)["links"]}


@operations(
    "POST",
    _ALL,
    rule="identity:ec2_create_credential",
    late=True,
    status=201,
    body=_BODY,
    summary="Create an EC2 credential",
)
def create_ec2(call: Call) -> dict[str, Any]:
    user_id = call.params["user_id"]
    permit(call, {"target.credential.user_id": user_id})
    application_credentials.check_not_delegated(call.service, call.context)
    key = credentials.create_ec2(call.service, user_id, call.body["tenant_id"])
    return {"credential": _shown(call, key)}


@operations("GET", _ONE, rule="identity:ec2_get_credential", late=True, summary="Show an EC2 credential")
def show_ec2(call: Call) -> dict[str, Any]:
    key = _permitted(call)
    application_credentials.check_not_delegated(call.service, call.context)
    return {"credential": _shown(call, key)}


@operations(
    "DELETE", _ONE, rule="identity:ec2_delete_credential", late=True, status=204, summary="Delete an EC2 credential"
)
def delete_ec2(call: Call) -> None:
    application_credentials.check_not_delegated(call.service, call.context)
    credentials.delete(call.service, _permitted(call).credential_id)


def _permitted(call: Call) -> Ec2:
    """The key of the path, authorized; one that does not exist is 404 for everybody. Raises Forbidden, NotFound."""
    key = credentials.find_ec2(call.service, call.params["access"])
    if key is None or key.user_id != call.params["user_id"]:
        call.mark_authorized()
        raise not_found("credential", call.params["access"])
    permit(call, {"target.credential.user_id": key.user_id})
    return key
