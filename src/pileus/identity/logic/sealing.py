"""Secrets that have to be given back: encrypted at rest, with keys of their own, which rotate with all that they encrypt.

A credential outlives every token, so its key may only go when nothing is encrypted with it any more: a rotation encrypts
everything anew, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken

from pileus.identity.store import revision
from pileus.identity.store.directory_tables import domain_options
from pileus.identity.store.listing import Record
from pileus.identity.store.tables import (
    credentials,
    oauth_access_tokens,
    oauth_consumers,
    oauth_request_tokens,
)
from pileus.kernel.errors import Internal
from pileus.kernel.service import Service

from . import state as state_module

SEALED: tuple[tuple[sa.Column[str], sa.Column[str]], ...] = (
    (credentials.c.id, credentials.c.blob),
    (oauth_consumers.c.id, oauth_consumers.c.secret),
    (oauth_request_tokens.c.id, oauth_request_tokens.c.secret),
    (oauth_access_tokens.c.id, oauth_access_tokens.c.secret),
    (domain_options.c.id, domain_options.c.sealed),
)
"""Primary key and sealed column of each table that keeps such secrets."""

_KEPT = 3
"""Staged, primary, and one secondary for what was written during a rotation."""
_PAGE = 500


def seal(service: Service, secret: str) -> str:
    """The text as it is stored; not to be called inside a transaction."""
    return _keys(service)[0].encrypt(secret.encode()).decode()


def unseal(service: Service, sealed: str) -> str:
    """The text as it was given. Raises Internal when no key is left that fits."""
    secret = _unsealed(_keys(service), sealed)
    if secret is None:
        raise Internal("A stored secret cannot be read.", inside="no credential key decrypts it")
    return secret.decode()


def rotate(service: Service) -> int:
    """Encrypt with the staged key from now on, everywhere; how many secrets were encrypted anew.

    Raises Internal, and changes nothing, when one of them cannot be read: its key must not be lost for good.
    """
    state = state_module.of(service)
    _keys(service)  # there are some
    with service.db.write() as conn:
        revision.advance(conn)  # its row lock lets in one rotation at a time
        if state.shared_credentials is None:
            _seal_all_again(conn, state.credential_keys.fernets())
            state.credential_keys.rotate(_KEPT)
            return _seal_all_again(conn, state.credential_keys.fernets())
        _seal_all_again(conn, state.shared_credentials.read(conn))
        state.shared_credentials.rotate(conn, _KEPT)
        return _seal_all_again(conn, state.shared_credentials.read(conn))


def _seal_all_again(conn: sa.Connection, keys: Sequence[Fernet]) -> int:
    """Everything that is not encrypted with the first key is, afterwards."""
    changed = 0
    for key_column, column in SEALED:
        last = ""
        while rows := _page(conn, key_column, column, last):
            for identifier, sealed in rows:
                if sealed and _unsealed(keys[:1], sealed) is None:
                    secret = _unsealed(keys, sealed)
                    if secret is None:
                        raise Internal("A stored secret cannot be read.", inside=f"{column}: {identifier}")
                    same = sa.and_(key_column == identifier, column == sealed)  # or it was changed meanwhile
                    fresh = {column.name: keys[0].encrypt(secret).decode()}
                    changed += conn.execute(sa.update(column.table).where(same).values(**fresh)).rowcount
            last = rows[-1][0]
    return changed


def _page(conn: sa.Connection, key_column: sa.Column[str], column: sa.Column[str], last: str) -> Sequence[Record]:
    query = sa.select(key_column, column).where(key_column > last).order_by(key_column).limit(_PAGE)
    found: Sequence[Record] = conn.execute(query).all()
    return found


def _unsealed(keys: Sequence[Fernet], sealed: str) -> bytes | None:
    for key in keys:
        try:
            return key.decrypt(sealed.encode())
        except InvalidToken:
            continue
    return None


def _keys(service: Service) -> tuple[Fernet, ...]:
    """Primary first; those of the vault are read again when the revision has moved, as each rotation moves it."""
    state = state_module.of(service)
    shared = state.shared_credentials
    if shared is None:
        try:
            return state.credential_keys.fernets()
        except FileNotFoundError:
            state.credential_keys.setup()
            return state.credential_keys.fernets()
    known = shared.known()
    if known is not None and known.revision == state_module.revision_of(service):
        return known.fernets()
    try:
        with service.db.read() as conn:
            return shared.at(conn, revision.read(conn)[0]).fernets()
    except FileNotFoundError:
        with service.db.write() as conn:
            shared.setup(conn, state.credential_keys.content())
            return shared.read(conn)
