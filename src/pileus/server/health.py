"""/healthcheck and /metrics, outside of every service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

from pileus.kernel import metrics

if TYPE_CHECKING:
    from pileus.server.assembly import Assembly


def plain_app(assembly: Assembly, is_stopping: Callable[[], bool] = bool) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """A WSGI application that says whether this worker can serve, and how much all processes have done."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            kind, body = metrics.exposition(metrics.directory_of(assembly.config.home))
            start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
            return [body]
        checks = {name: database_answers(service.db) for name, service in assembly.services.items()}
        fine = all(checks.values()) and not is_stopping()
        state = "ok" if fine else "stopping" if is_stopping() else "failing"
        body = orjson.dumps({"status": state, "databases": checks})
        status = "200 OK" if fine else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def database_answers(db: Any) -> bool:
    """Whether a database can be read now."""
    try:
        with db.read() as conn:
            conn.execute(sa.text("SELECT 1"))
    except sa.exc.SQLAlchemyError:
        return False
    return True
