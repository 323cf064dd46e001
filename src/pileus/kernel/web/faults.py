"""Errors on the wire: each service's own error bodies, the only place where domain errors meet HTTP.

The formats are those of the upstream services, as their API references show them.
"""

from __future__ import annotations

import dataclasses
import html
import http
from collections.abc import Callable
from typing import Any

import orjson

from pileus.kernel.errors import Failure, Invalid
from pileus.kernel.web.schema import SchemaError

JSON = "application/json"


@dataclasses.dataclass(frozen=True)
class Style:
    """How one service words and renders its errors.

    `render(failure, request_id)` gives content type and body; `forbidden(rule)` the sentence of a policy refusal;
    `invalid(error)` the failure of a body or query that breaks its schema; `not_found` the sentence for no such route.
    """

    render: Callable[[Failure, str], tuple[str, bytes]]
    forbidden: Callable[[str], str]
    invalid: Callable[[SchemaError], Failure]
    not_found: str = "The resource could not be found."
    bad_json: str = "Malformed request body"
    request_id_headers: tuple[str, ...] = ("x-openstack-request-id",)


def title_of(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _identity(failure: Failure, _request_id: str) -> tuple[str, bytes]:
    title = title_of(failure.status)
    body = {"error": {"code": failure.status, "message": failure.message, "title": title}}
    return JSON, orjson.dumps(body)


_COMPUTE_NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}


def _compute(failure: Failure, request_id: str) -> tuple[str, bytes]:
    if failure.status == 406:
        # The microversion framework answers in the API working group's form.
        error = {
            "status": 406,
            "request_id": request_id,
            "code": "",
            "title": "Not Acceptable",
            "detail": failure.message,
        }
        return JSON, orjson.dumps({"errors": [error]})
    name = _COMPUTE_NAMES.get(failure.status, "computeFault")
    body: dict[str, Any] = {"code": failure.status, "message": failure.message}
    if "Retry-After" in failure.headers and failure.status in {413, 429}:
        body["retryAfter"] = failure.headers["Retry-After"]
    return JSON, orjson.dumps({name: body})


def _network(failure: Failure, _request_id: str) -> tuple[str, bytes]:
    kind = failure.code or {404: "HTTPNotFound", 400: "HTTPBadRequest", 403: "HTTPForbidden"}.get(
        failure.status, title_of(failure.status).replace(" ", "")
    )
    return JSON, orjson.dumps({"NeutronError": {"type": kind, "message": failure.message, "detail": ""}})


_HTML = """<html>
 <head>
  <title>{status} {title}</title>
 </head>
 <body>
  <h1>{status} {title}</h1>
  {message}<br /><br />


 </body>
</html>"""


def _image(failure: Failure, _request_id: str) -> tuple[str, bytes]:
    text = _HTML.format(status=failure.status, title=title_of(failure.status), message=html.escape(failure.message))
    return "text/html; charset=UTF-8", text.encode()


def _placement(failure: Failure, request_id: str) -> tuple[str, bytes]:
    error = {
        "status": failure.status,
        "title": title_of(failure.status),
        "detail": failure.message,
        "request_id": request_id,
    }
    if failure.status >= 400 and failure.status != 401:
        error["code"] = failure.code or "placement.undefined_code"
    return JSON, orjson.dumps({"errors": [error]})


def _with_value(error: SchemaError) -> Failure:
    if not error.path:
        return Invalid(error.message)
    return Invalid(
        f"Invalid input for field/attribute {error.path.rsplit('/', 1)[-1]}. Value: {error.value}. {error.message}"
    )


def _with_path(error: SchemaError) -> Failure:
    return Invalid(f"Invalid input for field '{error.path}': {error.message}" if error.path else error.message)


STYLES: dict[str, Style] = {
    "identity": Style(
        render=_identity,
        forbidden=lambda rule: f"You are not authorized to perform the requested action: {rule}.",
        invalid=_with_path,
        not_found="The resource could not be found.",
    ),
    "compute": Style(
        render=_compute,
        forbidden=lambda rule: f"Policy doesn't allow {rule} to be performed.",
        invalid=_with_value,
        bad_json="Malformed request body",
        request_id_headers=("x-openstack-request-id", "x-compute-request-id"),
    ),
    "volume": Style(
        render=_compute,
        forbidden=lambda rule: f"Policy doesn't allow {rule} to be performed.",
        invalid=_with_value,
        request_id_headers=("x-openstack-request-id", "x-compute-request-id"),
    ),
    "network": Style(
        render=_network,
        forbidden=lambda rule: f"rule:{rule} is disallowed by policy",
        invalid=lambda error: Invalid(
            f"Invalid input for {error.path.rsplit('/', 1)[-1] or 'body'}. Reason: {error.message}.",
            code="HTTPBadRequest",
        ),
    ),
    "image": Style(
        render=_image,
        forbidden=lambda rule: f"You are not authorized to complete {rule} action.",
        invalid=lambda error: Invalid(
            f"Provided object does not match schema '{error.path}': {error.message}" if error.path else error.message
        ),
    ),
    "placement": Style(
        render=_placement,
        forbidden=lambda rule: f"Policy does not allow {rule} to be performed.",
        invalid=lambda error: Invalid(f"JSON does not validate: {error.message} at {error.path or 'the top'}"),
        bad_json="Malformed JSON",
    ),
}
"""Error styles by the name a room gives in its declaration."""


def unauthorized() -> tuple[str, bytes]:
    """The body of a 401, the same at every service: the token middleware answers, not the service."""
    message = "The request you have made requires authentication."
    return JSON, orjson.dumps({"error": {"code": 401, "message": message, "title": "Unauthorized"}})
