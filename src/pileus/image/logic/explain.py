"""Images for `pileus why`: whether the data is there, is being written, or broke off."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.image.store.tables import images
from pileus.kernel import clock
from pileus.kernel.explain import Explained


def explain(conn: sa.Connection, id: str) -> Explained | None:
    """None when there is no such image."""
    image = conn.execute(sa.select(images).where(images.c.id == id)).first()
    if image is None:
        return None
    size = f"{image.size} bytes" if image.data_key else "without data"
    now = f"{image.status}, {size}; made {image.created_at:%Y-%m-%d %H:%M:%S}, changed {image.updated_at:%H:%M:%S}"
    return Explained("image", now, _next(image))


def _next(image: Any) -> str:
    if image.upload_key:
        age = (clock.utcnow() - image.upload_since).total_seconds()
        return f"{image.upload_host} has been writing its data for {age:.0f} s; should the writer be dead, the image is queued again within a minute"
    if image.status == "queued":
        return "waits for its data to be uploaded"
    if image.status == "uploading":
        return "its staged data waits to be imported"
    return "nothing is waited for"
