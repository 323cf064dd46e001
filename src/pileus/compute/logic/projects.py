"""Whether a project exists: asked of identity before something is given to it."""

from __future__ import annotations

from pileus.clients.base import PeerForbidden, PeerNotFound
from pileus.compute.errors import BadRequest
from pileus.kernel.context import Context
from pileus.kernel.service import Service


def check_exists(service: Service, context: Context, project_id: str) -> None:
    """Raises `BadRequest` when identity knows no such project. A caller who may not look is believed, as upstream does."""
    if project_id == context.project_id:
        return
    try:
        service.clients.identity(context).show_project(project_id)
    except PeerNotFound:
        raise BadRequest(f"Project ID {project_id} is not a valid project.") from None
    except PeerForbidden:
        return
