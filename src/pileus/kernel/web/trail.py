"""The trail of changes: one line of the log for each request that changed something, so that `pileus why` can say who asked.

It names the resource, never what it was given: bodies may hold secrets.
"""

from __future__ import annotations

import logging
from typing import Any

from pileus.kernel.web.call import Call, Reply

LOGGER = "pileus.trail"
_log = logging.getLogger(LOGGER)
_LOOKS = frozenset({"GET", "HEAD"})


def note(call: Call, result: Any) -> None:
    """The request has been done; looks and changes of nothing that has a name leave no trail."""
    if call.method in _LOOKS or call.operation.rule is None:
        return
    resource = next(iter(call.params.values()), None) or _made(result)
    if resource is None:
        return
    context = call.context
    _log.info(
        "%s %s",
        call.method,
        call.path,
        extra={
            "service": call.service.name,
            "resource": resource,
            "request_id": context.request_id,
            "global_request_id": context.global_request_id,
            "user_id": context.user_id,
            "project_id": context.project_id,
        },
    )


def _made(result: Any) -> str | None:
    """The id in the answer to a creation: of the body itself, or of the one thing in it."""
    body = result.body if isinstance(result, Reply) else result
    for _ in range(2):
        if not isinstance(body, dict):
            return None
        if isinstance(body.get("id"), str):
            return str(body["id"])
        body = next(iter(body.values()), None)
    return None
