"""consumers of OAuth 1.0, trusts that are passed on"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Apply it."""
    op.create_table(
        "oauth_consumers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_consumers")),
    )
    op.create_table(
        "oauth_nonces",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_oauth_nonces")),
    )
    op.create_index(op.f("ix_oauth_nonces_expires_at"), "oauth_nonces", ["expires_at"], unique=False)
    op.create_table(
        "oauth_access_tokens",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("consumer_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("role_ids", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"), nullable=True),
        sa.ForeignKeyConstraint(
            ["consumer_id"], ["oauth_consumers.id"], name=op.f("fk_oauth_access_tokens_consumer_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_oauth_access_tokens_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_oauth_access_tokens_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_access_tokens")),
    )
    op.create_index(op.f("ix_oauth_access_tokens_consumer_id"), "oauth_access_tokens", ["consumer_id"], unique=False)
    op.create_index(op.f("ix_oauth_access_tokens_project_id"), "oauth_access_tokens", ["project_id"], unique=False)
    op.create_index(op.f("ix_oauth_access_tokens_user_id"), "oauth_access_tokens", ["user_id"], unique=False)
    op.create_table(
        "oauth_request_tokens",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("consumer_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("role_ids", sa.JSON(), nullable=False),
        sa.Column("verifier", sa.String(length=64), nullable=True),
        sa.Column("expires_at", sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"), nullable=True),
        sa.ForeignKeyConstraint(
            ["consumer_id"],
            ["oauth_consumers.id"],
            name=op.f("fk_oauth_request_tokens_consumer_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_oauth_request_tokens_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_oauth_request_tokens_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_request_tokens")),
    )
    op.create_index(op.f("ix_oauth_request_tokens_consumer_id"), "oauth_request_tokens", ["consumer_id"], unique=False)
    op.create_index(op.f("ix_oauth_request_tokens_expires_at"), "oauth_request_tokens", ["expires_at"], unique=False)
    op.create_index(op.f("ix_oauth_request_tokens_project_id"), "oauth_request_tokens", ["project_id"], unique=False)
    op.create_index(op.f("ix_oauth_request_tokens_user_id"), "oauth_request_tokens", ["user_id"], unique=False)
    op.add_column("trusts", sa.Column("redelegated_trust_id", sa.String(length=64), nullable=True))
    op.add_column("trusts", sa.Column("redelegation_count", sa.Integer(), server_default="0", nullable=False))
    op.create_index(op.f("ix_trusts_redelegated_trust_id"), "trusts", ["redelegated_trust_id"], unique=False)
