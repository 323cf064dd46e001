"""What controllers that share databases agree on before one of them starts, and how each is seen by the others.

On one machine with SQLite nothing is shared: everything here then is about the files of the home alone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Iterator

import sqlalchemy as sa

from pileus.kernel import clock, installation
from pileus.kernel.config import Config
from pileus.kernel.db import Database
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.files import write_private
from pileus.kernel.installation import Vault
from pileus.kernel.service import Service
from pileus.server.secrets import passwords, secret

_log = logging.getLogger(__name__)

SEEN_EVERY = 5.0
_METADATA = "metadata-secret"
_PASSWORDS = "passwords"
_INITIAL = "initial-content"


def is_shared(config: Config) -> bool:
    """Whether other controllers may use the databases of this one."""
    return config.shares_databases and "identity" in config.pileus.services


@contextlib.contextmanager
def _database(config: Config) -> Iterator[Database]:
    """Identity's database. Raises ConfigurationError when it does not work."""
    db = Database(config.database_url("identity"), "identity")
    try:
        yield db
    except sa.exc.SQLAlchemyError as error:
        raise ConfigurationError(f"the database of identity cannot be used: {error.__cause__ or error}") from error
    finally:
        db.close()


@contextlib.contextmanager
def preparing(config: Config) -> Iterator[None]:
    """One controller at a time prepares the databases for its start."""
    if "identity" not in config.pileus.services:
        yield
        return
    db = Database(config.database_url("identity"), "identity")
    try:
        with db.exclusive("preparation"):
            yield
    finally:
        db.close()


# --- who runs ---


def join(config: Config) -> None:
    """Register this controller. Raises ConfigurationError when it cannot work beside those that run, or was removed."""
    if "identity" not in config.pileus.services:
        return
    shared = is_shared(config)
    home = installation.identity_of(config.home) if shared else installation.NOBODY
    with _database(config) as db:
        with db.read() as conn:
            _check_beside(config, installation.others(conn, config.host))
        first = None
        while True:
            with db.write() as conn:
                seen_at = installation.register(conn, config.host, home, config.base_url, config.pileus.roles)
            if seen_at is None:
                return
            first = first or seen_at
            if seen_at > first:
                raise ConfigurationError(
                    f"a controller that calls itself {config.host} runs already. Each needs a name of its own:"
                    f" set pileus.host in {config.home}/pileus.toml."
                )
            clock.sleep(0.5)  # it is heard of again, or was killed and its time runs out


def _check_beside(config: Config, others: dict[str, str]) -> None:
    """May this controller run beside these?"""
    if not others:
        return
    names = ", ".join(sorted(others))
    if not config.bus.url:
        raise ConfigurationError(
            f"the databases are in use by {names}: controllers need RabbitMQ between them. Set bus.url to the same on all."
        )
    if not config.api.public_url:
        raise ConfigurationError(
            f"the databases are in use by {names}: clients need one address for all controllers."
            " Set api.public_url to the same on all."
        )
    for host, url in sorted(others.items()):
        if url != config.base_url:
            _log.warning("api.public_url is %s on %s and %s here; the catalog has this one now", url, host, config.base_url)


def be_seen(service: Service, stop: Callable[[], None]) -> None:
    """Tell the others that this controller is alive; stop it when they have removed it."""
    home, config = installation.identity_of(service.home), service.config
    try:
        with service.db.write(durable=False) as conn:
            other = installation.register(conn, service.host, home, config.base_url, config.pileus.roles)
    except installation.Removed as removed:
        _log.error("this controller stops: %s", removed)
        stop()
        return
    if other is not None:
        _log.error("another controller calls itself %s: one of the two has to be renamed (pileus.host)", service.host)


def leave(service: Service) -> None:
    """Tell the others that this controller has been stopped."""
    try:
        with service.db.write(durable=False) as conn:
            installation.leave(conn, service.host, installation.identity_of(service.home))
    except sa.exc.SQLAlchemyError:
        _log.warning("the other controllers find out by themselves that %s is gone", service.host)


# --- what they have in common ---


def agreed_passwords(config: Config, users: Iterable[str]) -> dict[str, str]:
    """The passwords of the installation's own users. They and the metadata secret are those of all controllers; the files of
    the home follow.
    """
    own = passwords(config.home, users)
    own_secret = secret(config.home, _METADATA)
    if not is_shared(config):
        return own
    vault = Vault(config.home)
    with _database(config) as db, db.write() as conn:
        known = json.loads(vault.get(conn, _PASSWORDS) or b"{}")
        agreed: dict[str, str] = {**own, **known}
        if agreed != known:
            vault.put(conn, _PASSWORDS, json.dumps(agreed).encode())
        agreed_secret = vault.agree(conn, _METADATA, own_secret)
    if agreed != own:
        write_private(config.home / "keys" / "passwords.json", json.dumps(agreed, indent=1).encode())
    if agreed_secret != own_secret:
        write_private(config.home / "keys" / _METADATA, agreed_secret)
    return agreed


class InitialContent:
    """Whether the first content of the cloud has been made, and by whom: `demo_key` is the private key of demo's key pair."""

    def __init__(self, mark: pathlib.Path, db: Database | None, vault: Vault, present: dict[str, str] | None) -> None:
        self._mark, self._db, self._vault = mark, db, vault
        self.present = present

    def complete(self, demo_key: str) -> None:
        """All is there, and is never made again by any controller."""
        if self._db is not None and self.present is None:
            with self._db.write() as conn:
                self._vault.put(conn, _INITIAL, json.dumps({"demo_key": demo_key}).encode())
        write_private(self._mark, json.dumps({"complete": True}).encode())


@contextlib.contextmanager
def initial_content(config: Config, mark: pathlib.Path) -> Iterator[InitialContent]:
    """While one controller looks, and makes what is missing, the others wait."""
    vault = Vault(config.home)
    if not is_shared(config):
        yield InitialContent(mark, None, vault, None)
        return
    with _database(config) as db, db.exclusive("initial content"):
        with db.read() as conn:
            stored = vault.get(conn, _INITIAL)
        yield InitialContent(mark, db, vault, None if stored is None else json.loads(stored))
