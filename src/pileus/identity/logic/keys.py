"""The keys of tokens and receipts: files of this machine beside SQLite, rows of the vault in a database that machines share.

Those of stored secrets are looked after by `sealing`.
"""

from __future__ import annotations

import sqlalchemy as sa

from pileus.identity.store import revision
from pileus.kernel.errors import Unavailable
from pileus.kernel.service import Service
from pileus.kernel.shared_keys import Ring

from . import state as state_module


def ring(service: Service, conn: sa.Connection, present: revision.Revision) -> Ring:
    """The keys of tokens as of a revision that was read in the same transaction. Raises Unavailable."""
    state = state_module.of(service)
    try:
        if state.shared is not None:
            return state.shared.at(conn, present[0])
        return Ring(present[0], state.keys.fernets())
    except FileNotFoundError as error:
        raise Unavailable("The token keys are missing.", inside=str(error)) from error


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
    if state.shared is None:
        state.keys.setup()
        state.receipt_keys.setup()
        return
    with service.db.write() as conn:
        state.shared.setup(conn, state.keys.content())
        assert state.shared_credentials is not None
        assert state.shared_receipts is not None
        state.shared_receipts.setup(conn, state.receipt_keys.content())
        state.shared_credentials.setup(conn, state.credential_keys.content())


def rotate(service: Service) -> int:
    """Sign with the staged key from now on, everywhere; the number of the primary key."""
    state = state_module.of(service)
    most: int = service.options.max_active_keys
    if state.shared is None:
        state.receipt_keys.rotate(most)
        return state.keys.rotate(most)
    with service.db.write() as conn:
        revision.advance(conn)  # first: its row lock lets one rotation at a time do this
        assert state.shared_receipts is not None
        state.shared_receipts.rotate(conn, most)
        return state.shared.rotate(conn, most)
