"""Setting limits of projects and classes."""

from __future__ import annotations

from collections.abc import Mapping

from pileus.compute.errors import BadRequest
from pileus.compute.logic import quotas
from pileus.compute.store.tables import QUOTA_CLASSES
from pileus.kernel import quota
from pileus.kernel.service import Service


def set_limits(service: Service, project_id: str, values: Mapping[str, int], *, force: bool) -> dict[str, int]:
    """Set limits; what holds then. Raises `BadRequest` for one below what is used, unless `force`."""
    with service.db.write() as conn:
        if not force:
            used = quota.usages(conn, project_id)
            for name, limit in values.items():
                if limit != quota.UNLIMITED and name in quotas.COUNTED and used.get(name, 0) > limit:
                    raise BadRequest(
                        f"Quota limit {limit} for {name} must be greater than or equal to already used and reserved "
                        f"{used[name]}."
                    )
        quota.set_limits(conn, project_id, values)
        return quotas.limits(service, conn, project_id)


def reset_limits(service: Service, project_id: str) -> None:
    with service.db.write() as conn:
        quota.reset_limits(conn, project_id)


def set_class(service: Service, class_name: str, values: Mapping[str, int]) -> dict[str, int]:
    """Set the limits of a class; what the class says then."""
    with service.db.write() as conn:
        for name, limit in values.items():
            where = (QUOTA_CLASSES.c.class_name == class_name, QUOTA_CLASSES.c.resource == name)
            conn.execute(QUOTA_CLASSES.delete().where(*where))
            conn.execute(QUOTA_CLASSES.insert().values(class_name=class_name, resource=name, hard_limit=limit))
        return {**quotas.option_defaults(service.options), **quotas.class_limits(conn, class_name)}
