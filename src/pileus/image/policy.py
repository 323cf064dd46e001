"""Policy rules of the image service: upstream's names and secure defaults.

Role `service` may do what other services need on behalf of users: read any image, and make, fill and remove images (compute's snapshots).
Role `node`, of a machine that runs guests, may read any image and no more.
"""

from __future__ import annotations

_VISIBLE = (
    "project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s "
    "or 'public':%(visibility)s or 'shared':%(visibility)s"
)
_OWN = "rule:context_is_admin or (role:member and project_id:%(project_id)s)"
_OWN_OR_SERVICE = f"{_OWN} or role:service"
_MEMBERSHIP = (
    "rule:context_is_admin or role:service or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)"
)

RULES: dict[str, str] = {
    "default": "",
    "context_is_admin": "role:admin",
    "service_api": "role:service or role:admin",
    "add_image": (
        "rule:context_is_admin or role:service or (role:member and project_id:%(project_id)s and project_id:%(owner)s)"
    ),
    "delete_image": _OWN_OR_SERVICE,
    "get_image": f"rule:context_is_admin or role:service or role:node or (role:reader and ({_VISIBLE}))",
    "get_images": "rule:context_is_admin or role:service or (role:reader and project_id:%(project_id)s)",
    "modify_image": _OWN_OR_SERVICE,
    "publicize_image": "rule:context_is_admin",
    "communitize_image": _OWN,
    "download_image": f"rule:context_is_admin or role:service or role:node or (role:member and ({_VISIBLE}))",
    "upload_image": _OWN_OR_SERVICE,
    "delete_image_location": "rule:context_is_admin",
    "add_member": _OWN,
    "delete_member": _OWN,
    "get_member": _MEMBERSHIP,
    "get_members": _MEMBERSHIP,
    "modify_member": "rule:context_is_admin or (role:member and project_id:%(member_id)s)",
    "deactivate": _OWN,
    "reactivate": _OWN,
    "stores_info_detail": "rule:context_is_admin or rule:service_api",
}
