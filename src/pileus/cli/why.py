"""`pileus why ID`: what happened to a resource, step by step, and what comes next."""

from __future__ import annotations

import argparse
import datetime as dt
import json
from typing import Any

from pileus.cli.session import home_of, load_controller
from pileus.cli.terminal import Problem
from pileus.kernel import clock
from pileus.kernel.db import Database
from pileus.kernel.flows import store
from pileus.server import rooms


def run(arguments: argparse.Namespace) -> int:
    """Print the timeline of a resource or a flow."""
    config = load_controller(home_of(arguments))
    found: list[tuple[str, dict[str, Any]]] = []
    for room in rooms.enabled(config):
        if room.flows:
            db = Database(config.database_url(room.name), room.name)
            with db.read() as conn:
                found += [(room.name, flow) for flow in store.timeline(conn, arguments.id)]
            db.close()
    if not found:
        raise Problem(f"No work on {arguments.id} is recorded here. Records of finished work are kept for seven days.")
    if arguments.json:
        print(json.dumps([{"service": service, **flow} for service, flow in found], default=str))
        return 0
    for service, flow in found:
        _show(service, flow)
    return 0


def _show(service: str, flow: dict[str, Any]) -> None:
    asked = flow["asked_by"]
    who = f"user {asked.get('user_id')} of project {asked.get('project_id')}, request {asked.get('request_id')}"
    print(f"{flow['created_at']:%Y-%m-%d %H:%M:%S} {service} {flow['kind']} ({flow['id']}), asked by {who}")
    for step in flow["steps"]:
        ended: dt.datetime | None = step["ended_at"]
        took = f"{(ended - step['started_at']).total_seconds():8.3f} s" if ended else "         -"
        tries = f", {step['attempts']} attempts" if step["attempts"] > 1 else ""
        error = f": {step['error']}" if step["error"] else ""
        print(
            f"  {step['started_at']:%H:%M:%S.%f} {took}  {step['name']:<20} {step['state']} on {step['host']}{tries}{error}"
        )
    print(f"  {_next(flow)}")


def _next(flow: dict[str, Any]) -> str:
    if flow["state"] == "done":
        return f"done at {flow['finished_at']:%H:%M:%S}"
    if flow["state"] == "failed":
        return f"given up at {flow['finished_at']:%H:%M:%S} and undone: {flow['error']}"
    doing = "undoing, because: " + str(flow["error"]) if flow["unwinding"] else "going on"
    if flow["state"] == "running":
        return f"{doing}; a worker has it now"
    wait = max(0.0, (flow["wake_at"] - clock.utcnow()).total_seconds())
    return f"{doing}; next look in {wait:.1f} s. {flow['waiting_for'] or ''}".rstrip()
