"""Starting, cancelling and waking flows, from any process: what `service.flows` is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel.context import Context
from pileus.kernel.db import after_commit
from pileus.kernel.flows import store


class FlowStarter:
    """`nudge` makes the controller look for work; it is called after the commit."""

    def __init__(self, nudge: Callable[[], None]) -> None:
        self._nudge = nudge

    def start(
        self, conn: sa.Connection, kind: str, *, resource_id: str, input: dict[str, Any] | None = None, context: Context
    ) -> str:
        """Record a flow in the transaction of the state that asks for it; its id.

        Flows of one resource run one after another, in the order of their start.
        """
        asked_by = {
            "request_id": context.request_id,
            "global_request_id": context.global_request_id,
            "user_id": context.user_id,
            "project_id": context.project_id,
            "roles": list(context.roles),
            "user_domain_id": context.user_domain_id,
            "project_domain_id": context.project_domain_id,
        }
        flow_id = store.insert(conn, kind, resource_id, input or {}, asked_by)
        after_commit(self._nudge)
        return flow_id

    def cancel(self, conn: sa.Connection, resource_id: str, kinds: Sequence[str] | None = None) -> int:
        """Ask unfinished flows of a resource to unwind; how many there are."""
        count = store.cancel(conn, resource_id, kinds)
        if count:
            after_commit(self._nudge)
        return count

    def wake(self, conn: sa.Connection, resource_id: str) -> None:
        """What a flow of this resource waits for may have come."""
        if store.wake(conn, resource_id):
            after_commit(self._nudge)

    def unfinished(self, conn: sa.Connection, resource_id: str) -> list[str]:
        """Kinds of the flows of a resource that have not ended."""
        return store.unfinished(conn, resource_id)
