"""Users of the broker, made and removed through RabbitMQ's management API (its plugin rabbitmq_management).

A node's user has no password: its certificate logs it in. It may make and read its own queue and what hosts are told
together, and send to queues; whether a receiver listens is the receiver's decision (see `sender`).
"""

from __future__ import annotations

import json
import re
import urllib.parse
from typing import Any

import urllib3

from pileus.kernel.bus.sender import AGENTS, is_node, node_of
from pileus.kernel.config import BusOptions
from pileus.kernel.errors import Unavailable
from pileus.kernel.waiting import forbid_in_transaction

_LIMITS = {"max-connections": 8, "max-channels": 32}
"""Of one node: its agent has one connection with three channels, a command now and then another one."""
_TIMEOUT = urllib3.Timeout(connect=3, read=10)


def permissions(host: str) -> dict[str, str]:
    """What the user of a host's node may: regular expressions of names in the broker.

    `amq.gen-` are queues that the broker names and gives to one connection alone; `amq.default` leads to queues by name.
    """
    queue = re.escape(f"pileus.{AGENTS}{host}")
    own = rf"^({queue}|amq\.gen-.*)$"
    return {
        "configure": own,
        "write": r"^(amq\.default|amq\.gen-.*)$",
        "read": rf"^({queue}|amq\.gen-.*|pileus\.agents)$",
    }


class Management:
    """The broker as its administrator sees it. Methods raise Unavailable when no broker does what is asked."""

    def __init__(self, options: BusOptions) -> None:
        self._urls = [url.rstrip("/") for url in options.management.split(";")]
        vhost = urllib.parse.unquote(urllib.parse.urlsplit(options.url.partition(";")[0]).path[1:]) or "/"
        self._vhost = urllib.parse.quote(vhost, safe="")
        self._pool = urllib3.PoolManager(retries=False, ca_certs=options.ca or None, timeout=_TIMEOUT)

    def nodes(self) -> set[str]:
        """The users that are nodes'."""
        return {entry["name"] for entry in self._request("GET", "/users") if is_node(entry["name"])}

    def make(self, user: str) -> None:
        """A node's user with its rights; made twice is made once."""
        name = urllib.parse.quote(user, safe="")
        self._request("PUT", f"/users/{name}", {"password_hash": "", "tags": ""})
        for limit, value in _LIMITS.items():
            self._request("PUT", f"/user-limits/{name}/{limit}", {"value": value})
        self._request("PUT", f"/permissions/{self._vhost}/{name}", permissions(node_of(user) or ""))

    def remove(self, user: str) -> None:
        """No such user any more; the broker closes its connections."""
        self._request("DELETE", f"/users/{urllib.parse.quote(user, safe='')}")

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        forbid_in_transaction("a request to the broker's management")
        inside = ""
        for url in self._urls:
            parts = urllib.parse.urlsplit(url)
            login = f"{urllib.parse.unquote(parts.username or '')}:{urllib.parse.unquote(parts.password or '')}"
            headers = {**urllib3.make_headers(basic_auth=login), "Content-Type": "application/json"}
            plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            try:
                answer = self._pool.request(
                    method, f"{plain}/api{path}", body=json.dumps(body) if body is not None else None, headers=headers
                )
            except urllib3.exceptions.HTTPError as error:
                inside = f"{parts.hostname}: {error}"
                continue
            if answer.status < 300 or (method == "DELETE" and answer.status == 404):
                return json.loads(answer.data) if answer.data else None
            inside = f"{parts.hostname}: status {answer.status} to {method} {path}"
        raise Unavailable("The broker's management does not do what is asked of it.", inside=inside)
