"""The cloud as the command line reaches it: its configuration, and clients that hold a token."""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import orjson
import urllib3

from pileus.cli.terminal import Problem
from pileus.clients import Clients
from pileus.clients.base import HttpBinding
from pileus.kernel.config import Config, default_home, load
from pileus.kernel.context import Context, context_of_token
from pileus.server import rooms
from pileus.server.secrets import node_login


def home_of(arguments: argparse.Namespace) -> pathlib.Path:
    return pathlib.Path(arguments.home).absolute() if getattr(arguments, "home", None) else default_home()


def load_config(home: pathlib.Path, overrides: dict[str, dict[str, Any]] | None = None) -> Config:
    """The configuration of a home, with the choices that an earlier `pileus up` recorded.

    Raises ConfigurationError.
    """
    recorded = home / "run-options.json"
    laid: dict[str, dict[str, Any]] = json.loads(recorded.read_text()) if recorded.exists() else {}
    for section, values in (overrides or {}).items():
        laid.setdefault(section, {}).update(values)
    return load(home, rooms.option_types(), overrides=laid)


def load_controller(home: pathlib.Path) -> Config:
    """The same of a machine that holds the databases. Raises ConfigurationError, Problem on any other."""
    config = load_config(home)
    if not config.is_controller:
        raise Problem("This machine is a node and has no databases: do this on a controller.")
    return config


def password_of(home: pathlib.Path, user: str) -> str:
    if node_login(home) is not None:
        raise Problem("This machine is a node and holds no password of the cloud: ask on a controller.")
    path = home / "keys" / "passwords.json"
    if not path.exists():
        raise Problem(f"There is no cloud in {home}. Start one with `pileus up`.")
    return str(json.loads(path.read_text())[user])


class Session:
    """An authenticated user of this cloud: `session.clients.network(session.context)`."""

    def __init__(self, config: Config, user: str, project: str) -> None:
        self.config = config
        self._ca = config.ca_file
        self._pool = urllib3.PoolManager(retries=False, ca_certs=self._ca)
        self.context = self._authenticate(user, project)
        token = self.context.token
        self.clients = Clients(
            {
                room.name: HttpBinding(config.internal_url + room.prefix, lambda _context: (token, None), self._ca)
                for room in rooms.enabled(config)
            }
        )

    def _authenticate(self, user: str, project: str) -> Context:
        domain = {"id": "default"}
        secret = password_of(self.config.home, user)
        body = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"name": user, "domain": domain, "password": secret}},
                },
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        url = f"{self.config.internal_url}/identity/v3/auth/tokens"
        try:
            answer = self._pool.request(
                "POST", url, body=orjson.dumps(body), headers={"Content-Type": "application/json"}
            )
        except urllib3.exceptions.HTTPError:
            raise Problem(
                f"The cloud does not answer at {self.config.internal_url}. Start it with `pileus up`."
            ) from None
        if answer.status != 201:
            raise Problem(
                f"Identity refuses {user} on project {project} (status {answer.status}): was its password changed?"
            )
        token = answer.headers["X-Subject-Token"]
        return context_of_token(orjson.loads(answer.data)["token"], token)
