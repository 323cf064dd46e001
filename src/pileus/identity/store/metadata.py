"""What all of identity's tables are declared with."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.kernel.db import NAMING

METADATA = sa.MetaData(naming_convention=NAMING)


def identifier(name: str = "id", **options: object) -> sa.Column[str]:
    return sa.Column(name, sa.String(64), **options)  # type: ignore[arg-type]
