"""What the controllers of one installation have in common when they share its databases, beside the content itself.

The *vault* holds secrets that all of them need (token keys, passwords of the service users, the metadata secret), encrypted
with the installation secret, the one file that each controller's home must have the same. *controllers* says who they are: two
of one name would release each other's work, so the second one is refused, and so is one that was removed.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import pathlib
from collections.abc import Sequence

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken

from pileus.kernel import ids
from pileus.kernel.db import Json, Timestamp, database_time, insert_ignore
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.files import write_private

ALIVE = dt.timedelta(seconds=15)
"""Who has not been seen for so long is gone."""
ACTIVE, DRAINING, REMOVED = "active", "draining", "removed"
NOBODY = ""
"""The home of a controller that shares nothing, has not started yet, or was stopped in order."""


class Removed(ConfigurationError):
    """The controller was put out of the cloud."""


def tables(metadata: sa.MetaData) -> None:
    """Add vault and controllers to a room's metadata."""
    sa.Table(
        "vault",
        metadata,
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    sa.Table(
        "controllers",
        metadata,
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("home", sa.String(64), nullable=False),
        sa.Column("url", sa.String(255), nullable=False),
        sa.Column("seen_at", Timestamp, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, server_default=ACTIVE),
        sa.Column("roles", Json, nullable=True),
        sa.Column("joined_at", Timestamp, nullable=True),
    )


_metadata = sa.MetaData()
tables(_metadata)
_VAULT = _metadata.tables["vault"]
_CONTROLLERS = _metadata.tables["controllers"]


def secret_file(home: pathlib.Path) -> pathlib.Path:
    """The installation secret of a home."""
    return home / "keys" / "installation-secret"


class Vault:
    """Secrets by name, in the database of a room that has the table.

    Every method raises ConfigurationError when the home has not the secret with which they were put there.
    """

    def __init__(self, home: pathlib.Path) -> None:
        self._home = home
        self._cipher: Fernet | None = None

    def get(self, conn: sa.Connection, name: str) -> bytes | None:
        """A secret, None when there is none of this name."""
        sealed = conn.execute(sa.select(_VAULT.c.value).where(_VAULT.c.name == name)).scalar_one_or_none()
        if sealed is None:
            return None
        try:
            return self._opened(conn).decrypt(sealed.encode())
        except InvalidToken:
            raise ConfigurationError(
                f"{secret_file(self._home)} is not the secret of the installation whose databases these are:"
                " copy the file from a controller that runs."
            ) from None

    def put(self, conn: sa.Connection, name: str, value: bytes) -> None:
        """Put a secret there, in place of an earlier one."""
        sealed = self._opened(conn).encrypt(value).decode()
        if not conn.execute(sa.update(_VAULT).where(_VAULT.c.name == name).values(value=sealed)).rowcount:
            conn.execute(sa.insert(_VAULT), {"name": name, "value": sealed})

    def agree(self, conn: sa.Connection, name: str, own: bytes) -> bytes:
        """The secret that all use from now on: the first that anybody offered."""
        insert_ignore(conn, _VAULT, [{"name": name, "value": self._opened(conn).encrypt(own).decode()}])
        agreed = self.get(conn, name)
        assert agreed is not None, "it was there or has been put there"
        return agreed

    def _opened(self, conn: sa.Connection) -> Fernet:
        if self._cipher is None:
            path = secret_file(self._home)
            if not path.exists():
                if conn.execute(sa.select(_VAULT.c.name).limit(1)).first() is not None:
                    raise ConfigurationError(
                        f"{path} is missing: these databases belong to an installation that has its secret already."
                        " Copy the file from a controller that runs."
                    )
                write_private(path, ids.token_bytes(32).hex().encode())
            digest = hashlib.sha256(path.read_bytes().strip()).digest()
            self._cipher = Fernet(base64.urlsafe_b64encode(digest))
        return self._cipher


def identity_of(home: pathlib.Path) -> str:
    """Names a home on a machine that has not been started again since; a copy of either has another one."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return hashlib.sha256(f"{boot}:{home}".encode()).hexdigest()


def register(conn: sa.Connection, host: str, home: str, url: str, roles: Sequence[str]) -> dt.datetime | None:
    """Note a controller. When another home of this name was seen lately, nothing is changed, and it is said when.

    Raises Removed for one that was.
    """
    now = database_time(conn)
    row = conn.execute(sa.select(_CONTROLLERS).where(_CONTROLLERS.c.host == host).with_for_update()).mappings().first()
    values = {"home": home, "url": url, "seen_at": now, "roles": list(roles)}
    if row is None:
        conn.execute(sa.insert(_CONTROLLERS), {"host": host, "joined_at": now, **values})
    elif row["state"] == REMOVED:
        raise Removed(
            f"{host} was removed from this cloud: `pileus node join` with a token of `pileus node token` lets it in again."
        )
    elif row["home"] not in {home, NOBODY} and row["seen_at"] > now - ALIVE:
        seen_at: dt.datetime = row["seen_at"]
        return seen_at
    else:
        conn.execute(sa.update(_CONTROLLERS).where(_CONTROLLERS.c.host == host).values(values))
    return None


def leave(conn: sa.Connection, host: str, home: str) -> None:
    """A controller that is stopped in order is missed by nobody."""
    own = sa.and_(_CONTROLLERS.c.host == host, _CONTROLLERS.c.home == home)
    conn.execute(sa.update(_CONTROLLERS).where(own).values(home=NOBODY))


def others(conn: sa.Connection, host: str) -> dict[str, str]:
    """The other controllers that run, with the URL that each believes clients to use."""
    runs = sa.and_(_CONTROLLERS.c.home != NOBODY, _CONTROLLERS.c.seen_at > database_time(conn) - ALIVE)
    rows = conn.execute(sa.select(_CONTROLLERS.c.host, _CONTROLLERS.c.url).where(_CONTROLLERS.c.host != host, runs))
    return {row.host: row.url for row in rows}


def admit(conn: sa.Connection, host: str, url: str, roles: Sequence[str]) -> bool:
    """A machine may start as a controller, in the place of a removed one of its name; False when the name is taken."""
    now = database_time(conn)
    conn.execute(sa.delete(_CONTROLLERS).where(_CONTROLLERS.c.host == host, _CONTROLLERS.c.state == REMOVED))
    row = {"host": host, "home": NOBODY, "url": url, "seen_at": now, "state": ACTIVE, "roles": list(roles), "joined_at": now}
    return insert_ignore(conn, _CONTROLLERS, [row]) == 1
