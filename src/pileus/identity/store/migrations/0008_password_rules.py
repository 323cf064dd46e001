"""rules of passwords, TOTP"""

import datetime as dt

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply it."""
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    op.add_column("users", sa.Column("password_self_service", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("users", sa.Column("failed_auth_count", sa.Integer(), server_default="0", nullable=False))
    op.add_column("users", sa.Column("failed_auth_at", moment, nullable=True))
    op.add_column("users", sa.Column("last_active_at", sa.Date(), nullable=True))
    op.create_index(op.f("ix_users_password_expires_at"), "users", ["password_expires_at"], unique=False)
    op.create_index(op.f("ix_users_last_active_at"), "users", ["last_active_at"], unique=False)
    _start_counting()
    op.create_table(
        "old_passwords",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("replaced_at", moment, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_old_passwords_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_old_passwords")),
    )
    op.create_index(op.f("ix_old_passwords_user_id_replaced_at"), "old_passwords", ["user_id", "replaced_at"], unique=False)
    op.create_table(
        "totp_uses",
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["credential_id"], ["credentials.id"], name=op.f("fk_totp_uses_credential_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_totp_uses")),
    )


def _start_counting() -> None:
    """Nobody was seen logging in before: people count as active today, users of services and nodes always, and those are never locked."""
    users = sa.table("users", sa.column("id"), sa.column("options", sa.JSON()), sa.column("last_active_at", sa.Date()))
    assignments = sa.table("assignments", sa.column("actor_id"), sa.column("role_id"))
    roles = sa.table("roles", sa.column("id"), sa.column("name"), sa.column("domain_id"))
    serving = (
        sa.select(assignments.c.actor_id)
        .join(roles, roles.c.id == assignments.c.role_id)
        .where(roles.c.domain_id == "", roles.c.name.in_(("service", "node")))
    )
    conn = op.get_bind()
    conn.execute(sa.update(users).where(users.c.id.not_in(serving)).values(last_active_at=dt.datetime.now(dt.UTC).date()))
    for user_id, options in conn.execute(sa.select(users.c.id, users.c.options).where(users.c.id.in_(serving))).all():
        exempt = {**options, "ignore_lockout_failure_attempts": True}
        conn.execute(sa.update(users).where(users.c.id == user_id).values(options=exempt))
