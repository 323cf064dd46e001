"""policies of endpoints"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply it."""
    links = {"policy_id": "policies.id", "endpoint_id": "endpoints.id", "service_id": "services.id", "region_id": "regions.id"}
    op.create_table(
        "policy_associations",
        sa.Column("subject", sa.String(length=384), nullable=False),
        sa.Column("policy_id", sa.String(length=64), nullable=False),
        sa.Column("endpoint_id", sa.String(length=64), nullable=True),
        sa.Column("service_id", sa.String(length=64), nullable=True),
        sa.Column("region_id", sa.String(length=255), nullable=True),
        *(
            sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_policy_associations_{column}"), ondelete="CASCADE")
            for column, target in links.items()
        ),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_policy_associations")),
    )
    for column in links:
        op.create_index(op.f(f"ix_policy_associations_{column}"), "policy_associations", [column], unique=False)
