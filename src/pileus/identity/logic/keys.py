"""The keys of tokens and receipts: files of this machine beside SQLite, rows of the vault in a database that machines share.

Those of stored secrets are looked after by `sealing`.
"""

from __future__ import annotations

import sqlalchemy as sa

from pileus.identity.store import revision
from pileus.kernel import jws, tokens
from pileus.kernel.errors import Unavailable
from pileus.kernel.service import Service
from pileus.kernel.shared_keys import Ring, SharedKeys
from pileus.kernel.tokens import Claims, KeyRepository, TokenInvalid

from . import state as state_module


def issue(service: Service, conn: sa.Connection, present: revision.Revision, claims: Claims) -> str:
    """The token of these claims, of the kind that `identity.token_provider` says.

    `present` was read in the same transaction. Raises Unavailable when there are no keys.
    """
    try:
        if service.options.token_provider == "jws":
            return jws.encode(claims, _signing(service, conn, present).keys)
        return tokens.encode(claims, _fernet(service, conn, present))
    except (FileNotFoundError, LookupError) as error:
        raise _missing(error) from error


def read(service: Service, conn: sa.Connection, present: revision.Revision, token: str) -> Claims:
    """What a token says, of either kind: those that were issued before the option was changed go on.

    Raises TokenInvalid, Unavailable when there are no keys.
    """
    signed = jws.is_signed(token)
    try:
        if signed:
            return jws.decode(token, _signing(service, conn, present).keys)
        return tokens.decode(token, _fernet(service, conn, present))
    except FileNotFoundError as error:
        if signed is (service.options.token_provider == "jws"):
            raise _missing(error) from error
        raise TokenInvalid from error  # nobody here has ever made tokens of this kind


def _missing(error: Exception) -> Unavailable:
    return Unavailable("The token keys are missing.", inside=str(error))


def _fernet(service: Service, conn: sa.Connection, present: revision.Revision) -> Ring:
    state = state_module.of(service)
    return _ring(state.keys, state.shared, conn, present)


def _signing(service: Service, conn: sa.Connection, present: revision.Revision) -> Ring:
    state = state_module.of(service)
    return _ring(state.signing, state.shared_signing, conn, present)


def _ring(files: KeyRepository, shared: SharedKeys | None, conn: sa.Connection, present: revision.Revision) -> Ring:
    """Raises FileNotFoundError when there are no keys."""
    return shared.at(conn, present[0]) if shared is not None else Ring(present[0], files.loaded())


def receipt_ring(service: Service, conn: sa.Connection, present: revision.Revision) -> Ring:
    """The keys of receipts, as those of tokens. Call `ensure_receipts` before the transaction."""
    state = state_module.of(service)
    if state.shared_receipts is not None:
        return state.shared_receipts.at(conn, present[0])
    return Ring(present[0], state.receipt_keys.fernets())


def ensure_receipts(service: Service) -> None:
    """See to it that there are keys of receipts: an installation made before there were any has none."""
    state = state_module.of(service)
    if state.shared_receipts is None:
        try:
            state.receipt_keys.fernets()
        except FileNotFoundError:
            state.receipt_keys.setup()
    elif state.shared_receipts.known() is None:
        with service.db.write() as conn:
            state.shared_receipts.setup(conn, state.receipt_keys.content())


def setup(service: Service) -> None:
    """See to it that there are keys. Those that a machine had in files before it shared a database go on."""
    state = state_module.of(service)
    signed = service.options.token_provider == "jws"
    if state.shared is None:
        (state.signing if signed else state.keys).setup()
        state.receipt_keys.setup()
        return
    with service.db.write() as conn:
        for files, shared, used in (
            (state.keys, state.shared, not signed),
            (state.signing, state.shared_signing, signed),
            (state.receipt_keys, state.shared_receipts, True),
            (state.credential_keys, state.shared_credentials, True),
        ):
            assert shared is not None
            present = files.content()
            if used or present:
                shared.setup(conn, present)


def rotate(service: Service) -> int:
    """Issue tokens with the staged key from now on, everywhere; the number of the primary key.

    Keys of the other kind, which the installation used before, are rotated with them: what they made ends with them.
    """
    state = state_module.of(service)
    most: int = service.options.max_active_keys
    signed = service.options.token_provider == "jws"
    if state.shared is None or state.shared_signing is None or state.shared_receipts is None:
        used, other = (state.signing, state.keys) if signed else (state.keys, state.signing)
        if other.content():
            other.rotate(most)
        state.receipt_keys.rotate(most)
        return used.rotate(most)
    shared, before = (state.shared_signing, state.shared) if signed else (state.shared, state.shared_signing)
    with service.db.write() as conn:
        revision.advance(conn)  # first: its row lock lets one rotation at a time do this
        if before.exists(conn):
            before.rotate(conn, most)
        state.shared_receipts.rotate(conn, most)
        return shared.rotate(conn, most)
