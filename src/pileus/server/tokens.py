"""Tokens of the installation's own service users, for peers that are reached over HTTP."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from typing import Any

import orjson
import urllib3

from pileus.clients.base import PeerUnavailable
from pileus.kernel import clock
from pileus.kernel.context import Context

_RENEW_BEFORE = dt.timedelta(minutes=5)
_PEOPLE = {"admin", "demo"}  # users of the installation that are no services


class ServiceTokens:
    """Gets and keeps one token for each service that acts over HTTP; on a node, which is no service, one for `node`."""

    def __init__(
        self, identity_url: str, passwords: Mapping[str, str], ca_file: str | None = None, node: str = ""
    ) -> None:
        self._node = node
        self._url = identity_url.rstrip("/") + "/v3/auth/tokens"
        self._passwords = passwords
        self._pool = urllib3.PoolManager(retries=False, ca_certs=ca_file)
        self._tokens: dict[str, tuple[str, dt.datetime]] = {}
        self._lock = threading.Lock()

    def headers(self, context: Context) -> tuple[str | None, str | None]:
        """X-Auth-Token and X-Service-Token of a context: a service's own work, or a user's request passed on."""
        if context.acts_for is not None:
            token = self.of(context.acts_for)
            return token, token
        services = self._passwords.keys() - _PEOPLE
        if context.access_rules is not None and services:
            return context.token, self.of(min(services))  # confined to what was asked of us, not to what we ask
        return context.token, None

    def of(self, service: str) -> str:
        """A valid token of a service user, or of the node. Raises PeerUnavailable when identity gives none."""
        service = self._node or service
        with self._lock:
            known = self._tokens.get(service)
            if known is not None and known[1] - clock.utcnow() > _RENEW_BEFORE:
                return known[0]
            self._tokens[service] = self._fetch(service)
            return self._tokens[service][0]

    def forget(self, token: str) -> None:
        """It was refused: the next who asks gets a new one."""
        with self._lock:
            self._tokens = {service: known for service, known in self._tokens.items() if known[0] != token}

    def _fetch(self, service: str) -> tuple[str, dt.datetime]:
        user = {"name": service, "domain": {"id": "default"}, "password": self._passwords[service]}
        body: dict[str, Any] = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": "service", "domain": {"id": "default"}}},
            }
        }
        try:
            answer = self._pool.request(
                "POST",
                self._url,
                body=orjson.dumps(body),
                headers={"Content-Type": "application/json"},
                timeout=urllib3.Timeout(connect=3, read=15),
            )
        except urllib3.exceptions.HTTPError as error:
            raise PeerUnavailable("The identity service does not answer.", status=503, inside=repr(error)) from error
        if answer.status != 201:
            raise PeerUnavailable(
                f"The identity service gives {service} no token.", status=503, inside=f"status {answer.status}"
            )
        expires = clock.parse(orjson.loads(answer.data)["token"]["expires_at"])
        return answer.headers["X-Subject-Token"], expires
