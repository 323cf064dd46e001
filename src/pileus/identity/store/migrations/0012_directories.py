"""configuration of domains, and entries of directories"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Apply it."""
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    op.create_table(
        "domain_options",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("domain_id", sa.String(length=64), nullable=False),
        sa.Column("section", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("sealed", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["domain_id"], ["projects.id"], name=op.f("fk_domain_options_domain_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domain_options")),
    )
    op.create_index(op.f("ix_domain_options_domain_id"), "domain_options", ["domain_id"], unique=False)
    op.create_index(op.f("ix_domain_options_section_name"), "domain_options", ["section", "name"], unique=False)
    op.create_table(
        "directory_entries",
        sa.Column("public_id", sa.String(length=64), nullable=False),
        sa.Column("domain_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=1), nullable=False),
        sa.Column("local_id", sa.String(length=255), nullable=False),
        sa.Column("gone_at", moment, nullable=True),
        sa.ForeignKeyConstraint(["domain_id"], ["projects.id"], name=op.f("fk_directory_entries_domain_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("public_id", name=op.f("pk_directory_entries")),
    )
    op.create_index(op.f("ix_directory_entries_domain_id"), "directory_entries", ["domain_id"], unique=False)
