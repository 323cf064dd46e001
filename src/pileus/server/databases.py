"""Databases of an installation: newest revision, first content of identity. Runs in a process of its own, because
Alembic is heavy; when everything is at its newest revision it is not even imported.
"""

from __future__ import annotations

import os
import pathlib

import sqlalchemy as sa

from pileus.kernel.config import Config
from pileus.kernel.db import Database
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.room import Room, load
from pileus.server import rooms, shared
from pileus.server.assembly import Assembly, make_bus


def newest_revision(room: Room) -> str:
    """By the names of the migration files, without importing them."""
    folder = pathlib.Path(load(room.tables.partition(":")[0] + ":__file__")).parent / "migrations"
    return max((path.name[:4] for path in folder.glob("[0-9]*.py")), default="")


def present_revision(db: Database) -> str | None:
    """What a database says; None when it is empty.

    Raises ConfigurationError when it cannot be reached.
    """
    try:
        with db.read() as conn:
            if not sa.inspect(conn).has_table("alembic_version"):
                return None
            return conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except sa.exc.SQLAlchemyError as error:
        raise ConfigurationError(f"the database of {db.name} cannot be read: {error.__cause__ or error}") from error


def upgrade_all(config: Config) -> dict[str, list[str]]:
    """Bring every database to its newest revision; what was applied, by service.

    Raises ConfigurationError for a database that is newer than this release.
    """
    applied: dict[str, list[str]] = {}
    for room in rooms.enabled(config):
        db = Database(config.database_url(room.name), room.name)
        present, newest = present_revision(db), newest_revision(room)
        if present is not None and present > newest:
            raise ConfigurationError(
                f"the database of {room.name} has revision {present}, this release knows {newest}: it was used by a newer one"
            )
        if present != newest:
            from pileus.kernel.db import migrate  # noqa: PLC0415 - Alembic only when there is work for it

            applied[room.name] = migrate.upgrade(db, room.name)
        db.close()
    return applied


def prepare(config: Config) -> None:
    """Upgrade, and give identity its first content: roles, admin, service users, catalog. Safe to repeat."""
    upgrade_all(config)
    assembly = Assembly(config, make_bus(config, "prepare"))
    with shared.preparing(config):
        shared.join(config)
        secrets = shared.agreed_passwords(config, ["admin", "demo", *[room.name for room in assembly.rooms]])
        for room in assembly.rooms:
            if room.bootstrap:
                users = {other.name: secrets[other.name] for other in assembly.rooms}
                load(room.bootstrap)(
                    assembly.services[room.name], secrets["admin"], endpoints(config, assembly.rooms), users
                )


def rotate_token_keys(config: Config) -> int:
    """Sign tokens with the staged key from now on, on every controller; the number of the primary key.

    Raises ConfigurationError where identity does not run.
    """
    return _rotate(config, "rotate_keys")


def rotate_credential_keys(config: Config) -> int:
    """Encrypt stored secrets with the staged key from now on, and all that there are anew; how many those were.

    Raises ConfigurationError where identity does not run.
    """
    return _rotate(config, "rotate_credential_keys")


def _rotate(config: Config, which: str) -> int:
    assembly = Assembly(config, make_bus(config, "keys"))
    for room in assembly.rooms:
        if path := getattr(room, which):
            try:
                return int(load(path)(assembly.services[room.name]))
            except sa.exc.SQLAlchemyError as error:
                raise ConfigurationError(f"the database of {room.name} cannot be used: {error.__cause__ or error}") from error
    raise ConfigurationError("identity does not run in this installation: it has no keys")


def endpoints(config: Config, all_rooms: list[Room]) -> list[dict[str, str]]:
    """The catalog: one entry per service."""
    found = []
    for room in all_rooms:
        base = config.base_url
        path = room.catalog
        if config.api.endpoints == "ports":
            base = f"{config.scheme}://{config.reachable_host}:{room.port}"
            path = room.catalog.removeprefix(room.prefix)
        entry = {"service_type": room.service_type, "service_name": room.service_name, "url": base + path}
        found.append({**entry, "region": config.pileus.region})
    return found


def prepare_in_child(config: Config) -> None:
    """`prepare` in a child process. Raises ConfigurationError with what the child said."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            prepare(config)
            code = 0
        except ConfigurationError as error:
            os.write(writer, str(error).encode()[:4000])
        except BaseException:
            import traceback  # noqa: PLC0415 - only on the way down

            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    if status:
        raise ConfigurationError(said or f"preparing the databases ended with status {status}")
