"""The secret that the network agents and the compute service share: with it the agent signs whose metadata is asked for."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from pileus.kernel import ids


def shared_secret(home: Path) -> bytes:
    """Read the secret of this installation; whoever comes first makes it, and nobody ever sees half of it."""
    path = home / "keys" / "metadata-secret"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = path.with_name(f".{path.name}.{ids.new_id()[:8]}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(ids.token_bytes(32).hex().encode())
            stream.flush()
            os.fsync(descriptor)
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    return path.read_bytes().strip()


def sign(secret: bytes, instance_id: str) -> str:
    """The signature of an instance id: HMAC-SHA256 in hex, as upstream's metadata agent makes it."""
    return hmac.new(secret, instance_id.encode(), hashlib.sha256).hexdigest()
