"""`pileus why ID`: what happened to a resource or a flow, who asked for it, step by step, and what comes next.

It puts together what the databases know (the resource, its flows) and what the logs of this installation tell (requests that changed
it, and warnings that name it).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import pathlib
from typing import Any

from pileus.cli.session import home_of, load_controller
from pileus.cli.terminal import Problem
from pileus.kernel import clock
from pileus.kernel.config import Config
from pileus.kernel.db import Database
from pileus.kernel.explain import Explained
from pileus.kernel.flows import store
from pileus.kernel.room import Room, load
from pileus.kernel.web.trail import LOGGER
from pileus.server import rooms

Entry = dict[str, Any]


def run(arguments: argparse.Namespace) -> int:
    """Print the timeline of a resource or a flow."""
    config = load_controller(home_of(arguments))
    found = story(config, arguments.id)
    if not (found["flows"] or found["resources"] or found["requests"]):
        raise Problem(f"No work on {arguments.id} is recorded here. Records of finished work are kept for seven days.")
    if arguments.json:
        print(json.dumps(found, default=str))
        return 0
    for resource in found["resources"]:
        print(f"{resource['kind']} {resource['id']}: {resource['now']}")
        print(f"  next: {resource['next']}")
    for request in found["requests"]:
        _show_request(request)
    for flow in found["flows"]:
        _show(flow)
    for entry in found["log"]:
        print(f"{entry['time']} {entry['process']} {entry['level']}: {entry['message']}")
    return 0


def story(config: Config, id: str) -> dict[str, list[Entry]]:
    """All that is known, each part oldest first."""
    enabled = rooms.enabled(config)
    resources: list[Entry] = []
    flows: list[Entry] = []
    ids = [id]
    for each in ids:  # it grows while it is gone through
        for room in enabled:
            explained = _explained(config, room, each)
            if explained is not None:
                resources.append({"service": room.name, "id": each, "kind": explained.kind, "now": explained.now, "next": explained.next})
                ids += [other for other in explained.related if other not in ids]
    for room in enabled:
        if room.flows:
            flows += [{"service": room.name, **flow} for each in ids for flow in _flows(config, room, each)]
    if not resources:
        ids += sorted({flow["resource_id"] for flow in flows} - set(ids))
    requests, told = _logged(config.home / "logs", set(ids))
    return {"resources": resources, "requests": requests, "flows": sorted(flows, key=lambda flow: flow["created_at"]), "log": told}


def _explained(config: Config, room: Room, id: str) -> Explained | None:
    if not room.explain:
        return None
    db = Database(config.database_url(room.name), room.name)
    try:
        with db.read() as conn:
            explained: Explained | None = load(room.explain)(conn, id)
    finally:
        db.close()
    return explained


def _flows(config: Config, room: Room, id: str) -> list[Entry]:
    db = Database(config.database_url(room.name), room.name)
    try:
        with db.read() as conn:
            return store.timeline(conn, id)
    finally:
        db.close()


def _logged(folder: pathlib.Path, ids: set[str]) -> tuple[list[Entry], list[Entry]]:
    """Requests that changed these resources, and warnings that name them, of all processes on this host."""
    requests, told = [], []
    for path in folder.glob("*.log*"):
        for line in path.read_text(errors="replace").splitlines():
            if not any(id in line for id in ids):
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("logger") == LOGGER:
                requests.append(entry)
            elif entry.get("level") in {"warning", "error", "critical"}:
                told.append({key: entry[key] for key in ("time", "process", "level", "message")})
    return sorted(requests, key=_time), sorted(told, key=_time)


def _time(entry: Entry) -> str:
    return str(entry["time"])


def _show_request(request: Entry) -> None:
    who = f"user {request['user_id']} of project {request['project_id']}"
    beyond = f" for {request['global_request_id']}" if request.get("global_request_id") else ""
    print(f"{request['time'].replace('T', ' ')[:19]} {request['service']} {request['message']} by {who}, request {request['request_id']}{beyond}")


def _show(flow: Entry) -> None:
    asked = flow["asked_by"]
    who = f"user {asked.get('user_id')} of project {asked.get('project_id')}, request {asked.get('request_id')}"
    print(f"{flow['created_at']:%Y-%m-%d %H:%M:%S} {flow['service']} {flow['kind']} ({flow['id']}), asked by {who}")
    for step in flow["steps"]:
        ended: dt.datetime | None = step["ended_at"]
        took = f"{(ended - step['started_at']).total_seconds():8.3f} s" if ended else "         -"
        tries = f", {step['attempts']} attempts" if step["attempts"] > 1 else ""
        error = f": {step['error']}" if step["error"] else ""
        print(
            f"  {step['started_at']:%H:%M:%S.%f} {took}  {step['name']:<20} {step['state']} on {step['host']}{tries}{error}"
        )
    print(f"  {_next(flow)}")


def _next(flow: Entry) -> str:
    if flow["state"] == "done":
        return f"done at {flow['finished_at']:%H:%M:%S}"
    if flow["state"] == "failed":
        return f"given up at {flow['finished_at']:%H:%M:%S} and undone: {flow['error']}"
    doing = "undoing, because: " + str(flow["error"]) if flow["unwinding"] else "going on"
    if flow["state"] == "running":
        return f"{doing}; a worker has it now"
    wait = max(0.0, (flow["wake_at"] - clock.utcnow()).total_seconds())
    return f"{doing}; next look in {wait:.1f} s. {flow['waiting_for'] or ''}".rstrip()
