"""Verification of requests signed with EC2 keys: /v3/ec2tokens and /v3/s3tokens, for the services that got them."""

from __future__ import annotations

from typing import Any

from pileus.identity.logic import signed
from pileus.kernel.web import Call, Operations, Reply

from .auth import JSON

operations = Operations()

_TEXT = {"type": "string"}
_CREDENTIALS = {
    "type": "object",
    "properties": {
        "access": _TEXT,
        "signature": _TEXT,
        "token": _TEXT,
        "verb": _TEXT,
        "host": _TEXT,
        "path": _TEXT,
        "body_hash": _TEXT,
        "params": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
        "headers": {"type": "object", "additionalProperties": _TEXT},
    },
    "minProperties": 1,
}
_NAMES = ("credentials", "credential", "ec2Credentials")
_BODY = {"type": "object", "properties": dict.fromkeys(_NAMES, _CREDENTIALS), "minProperties": 1}


@operations("POST", "/ec2tokens", rule="identity:ec2tokens_validate", body=_BODY, summary="Verify a signed EC2 request")
def verify_ec2(call: Call) -> Reply:
    issued = signed.ec2(call.service, _given(call))
    return Reply(issued.json, headers={"X-Subject-Token": issued.token}, content_type=JSON)


@operations("POST", "/s3tokens", rule="identity:s3tokens_validate", body=_BODY, summary="Verify a signed S3 request")
def verify_s3(call: Call) -> Reply:
    return Reply(signed.s3(call.service, _given(call)).json, content_type=JSON)


def _given(call: Call) -> dict[str, Any]:
    """Clients use any of three names."""
    return next((call.body[name] for name in _NAMES if call.body.get(name)), {})
