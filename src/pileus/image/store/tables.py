"""Tables of the image service.

An image row that is deleted is gone; what is left of it is a row in `removals` naming its data, until a loop has removed that too. While data is
being written the image carries `upload_key`, the name under which it is written, and the host that writes it: should the writer die, a loop of that
host finds the image by them.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from pileus.kernel import quota
from pileus.kernel.db import NAMING, Timestamp

METADATA = sa.MetaData(naming_convention=NAMING)

images = sa.Table(
    "images",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(255), nullable=True),
    sa.Column("owner", sa.String(255), nullable=True),
    sa.Column("status", sa.String(30), nullable=False),
    sa.Column("visibility", sa.String(9), nullable=False),
    sa.Column("disk_format", sa.String(20), nullable=True),
    sa.Column("container_format", sa.String(20), nullable=True),
    sa.Column("size", sa.BigInteger, nullable=True),
    sa.Column("virtual_size", sa.BigInteger, nullable=True),
    sa.Column("checksum", sa.String(32), nullable=True),
    sa.Column("os_hash_algo", sa.String(64), nullable=True),
    sa.Column("os_hash_value", sa.String(128), nullable=True),
    sa.Column("min_disk", sa.Integer, nullable=False),
    sa.Column("min_ram", sa.Integer, nullable=False),
    sa.Column("protected", sa.Boolean, nullable=False),
    sa.Column("os_hidden", sa.Boolean, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp, nullable=False),
    # Rises with every change: a patch is written only over what it was computed from.
    sa.Column("version", sa.Integer, nullable=False, server_default="0"),
    # Name of the data in the store; set once it is complete.
    sa.Column("data_key", sa.String(36), nullable=True),
    sa.Column("upload_key", sa.String(36), nullable=True),
    sa.Column("upload_host", sa.String(255), nullable=True),
    sa.Column("upload_since", Timestamp, nullable=True),
    sa.Index("ix_images_owner_created_at", "owner", "created_at"),
    sa.Index("ix_images_visibility_created_at", "visibility", "created_at"),
    sa.Index("ix_images_created_at_id", "created_at", "id"),
    sa.Index("ix_images_name", "name"),
    sa.Index("ix_images_status", "status"),
    sa.Index("ix_images_upload_host", "upload_host"),
    sa.Index("ix_images_data_key", "data_key"),
)


def _image() -> sa.Column[str]:
    owner = sa.ForeignKey("images.id", ondelete="CASCADE")
    return sa.Column("image_id", sa.String(36), owner, primary_key=True, nullable=False)


image_properties = sa.Table(
    "image_properties",
    METADATA,
    _image(),
    sa.Column("name", sa.String(255), primary_key=True),
    # 65,535 characters: more than 64 KiB of UTF-8.
    sa.Column("value", sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
    sa.Index("ix_image_properties_name", "name"),
)

image_tags = sa.Table(
    "image_tags",
    METADATA,
    _image(),
    sa.Column("value", sa.String(255), primary_key=True),
    sa.Index("ix_image_tags_value", "value"),
)

image_members = sa.Table(
    "image_members",
    METADATA,
    _image(),
    sa.Column("member", sa.String(255), primary_key=True),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp, nullable=False),
    sa.Index("ix_image_members_member_status", "member", "status"),
)

removals = sa.Table(
    "removals",
    METADATA,
    sa.Column("data_key", sa.String(36), primary_key=True),
    sa.Column("created_at", Timestamp, nullable=False),
)

# Ids that have been: nobody may give an image the id of one that others remember as another.
retired_ids = sa.Table("retired_ids", METADATA, sa.Column("id", sa.String(36), primary_key=True))

quota.tables(METADATA)
