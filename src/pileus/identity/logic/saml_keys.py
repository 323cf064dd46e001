"""The key that signs assertions: the operator's files, or one of the installation's own.

The own one is made when it is first needed: a file beside SQLite, in the vault where machines share the database. It stays,
since other clouds know its certificate.
"""

from __future__ import annotations

import pathlib

from pileus.kernel.errors import Unavailable
from pileus.kernel.files import agree_private
from pileus.kernel.installation import Vault
from pileus.kernel.service import Service
from pileus.kernel.xml_signatures import Signer, new_pair

from . import state as state_module

_NAME = "Pileus SAML"
_SECRET = "saml-key"


def signer(service: Service) -> Signer:
    """Read once by each process. Raises Unavailable when the operator's files cannot be used."""
    state = state_module.of(service)
    if state.signer is None:
        state.signer = _of_files(service) if service.options.saml_certfile else _own(service)
    return state.signer


def _of_files(service: Service) -> Signer:
    options = service.options
    try:
        key, certificate = (pathlib.Path(name).read_bytes() for name in (options.saml_keyfile, options.saml_certfile))
        return Signer.load(key, certificate)
    except (OSError, ValueError) as error:
        raise Unavailable("The key that signs assertions cannot be read.", inside=str(error)) from error


def _own(service: Service) -> Signer:
    pair = _in_file(service.home / "keys" / "saml.pem") if service.db.is_sqlite else _in_vault(service)
    return Signer.load(pair, pair)


def _in_file(path: pathlib.Path) -> bytes:
    return path.read_bytes() if path.exists() else agree_private(path, new_pair(_NAME))


def _in_vault(service: Service) -> bytes:
    vault = Vault(service.home)
    with service.db.read() as conn:
        known = vault.get(conn, _SECRET)
    if known is not None:
        return known
    made = new_pair(_NAME)  # takes its time: outside of the transaction
    with service.db.write() as conn:
        return vault.agree(conn, _SECRET, made)
