"""registered limits outlive their service"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Apply it. SQLite makes the table anew, and dropping the old one would take the limits below it along."""
    conn = op.get_bind()
    limits = sa.Table("limits", sa.MetaData(), autoload_with=conn, resolve_fks=False)
    kept = [dict(row) for row in conn.execute(sa.select(limits)).mappings()] if conn.dialect.name == "sqlite" else []
    with op.batch_alter_table("registered_limits") as batch:
        batch.drop_constraint(op.f("fk_registered_limits_service_id"), type_="foreignkey")
    if kept:
        conn.execute(sa.delete(limits))
        conn.execute(sa.insert(limits), kept)
