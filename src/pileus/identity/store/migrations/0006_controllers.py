"""controllers that join, drain and are removed"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply it."""
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    op.add_column("controllers", sa.Column("state", sa.String(length=16), nullable=False, server_default="active"))
    op.add_column("controllers", sa.Column("roles", sa.JSON(), nullable=True))
    op.add_column("controllers", sa.Column("joined_at", moment, nullable=True))
