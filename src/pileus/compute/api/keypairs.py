"""Key pairs: /os-keypairs."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.logic import keypairs as logic
from pileus.kernel import clock
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_NAME = {"type": "string", "minLength": 1, "maxLength": 255}
_KEY = {"type": "string"}
_TYPE = {"enum": ["ssh", "x509"]}


def _body(required: list[str], **more: Any) -> s.Schema:
    return s.wrap("keypair", s.obj({"name": _NAME, "public_key": _KEY, **more}, required))


CREATE = [
    ("2.1", _body(["name"])),
    ("2.2", _body(["name"], type=_TYPE)),
    ("2.10", _body(["name"], type=_TYPE, user_id=s.ANY_TEXT)),
    ("2.92", _body(["name", "public_key"], type=_TYPE, user_id=s.ANY_TEXT)),
]
_USER = {"user_id": s.many(s.ANY_TEXT)}
LIST_QUERY = [
    ("2.1", s.query({})),
    ("2.10", s.query(_USER)),
    ("2.35", s.query({**_USER, **s.PAGING})),
    ("2.75", s.query({**_USER, **s.PAGING}, additional=False)),
]
ONE_QUERY = [("2.1", s.query({})), ("2.10", s.query(_USER)), ("2.75", s.query(_USER, additional=False))]


def _user(call: Call, given: str | None = None) -> str:
    """Whose keys are meant: the caller's, or from 2.10 on those of a user that an administrator names."""
    user_id = call.context.user_id or ""
    if call.at_least(2, 10):
        user_id = given or call.query.one("user_id") or user_id
    call.authorize({"user_id": user_id, "project_id": call.context.project_id})
    return user_id


def _view(call: Call, row: dict[str, Any]) -> dict[str, Any]:
    view = {"name": row["name"], "public_key": row["public_key"], "fingerprint": row["fingerprint"]}
    if call.at_least(2, 2):
        view["type"] = row["type"]
    return view


@operations("GET", "/os-keypairs", rule="os_compute_api:os-keypairs:index", late=True, query=LIST_QUERY)
def list_keypairs(call: Call) -> dict[str, Any]:
    """List key pairs"""
    user_id = _user(call)
    paged = call.at_least(2, 35)
    limit = s.limit_of(call) if paged else None
    rows = logic.list_keypairs(call.service, user_id, marker=call.query.one("marker") if paged else None, limit=limit)
    answer: dict[str, Any] = {"keypairs": [{"keypair": _view(call, row)} for row in rows]}
    if paged and rows and len(rows) == limit:
        answer["keypairs_links"] = s.next_link(call, call.link("/os-keypairs"), rows[-1]["name"])
    return answer


@operations("POST", "/os-keypairs", rule="os_compute_api:os-keypairs:create", late=True, body=CREATE)
def create_keypair(call: Call) -> Reply:
    """Generate or import a key pair"""
    given = call.body["keypair"]
    user_id = _user(call, given.get("user_id"))
    logic.check_name(given["name"], also="@." if call.at_least(2, 92) else "")
    kind = given.get("type", logic.SSH)
    private = None
    public = given.get("public_key")
    if public is None:
        private, public = logic.generate() if kind == logic.SSH else logic.generate_certificate(user_id)
    row = logic.create_keypair(call.service, call.context.project_id, user_id, given["name"], public, kind)
    view = {**_view(call, row), "user_id": user_id}
    if private is not None:
        view["private_key"] = private
    return Reply({"keypair": view}, status=201 if call.at_least(2, 2) else 200)


@operations("GET", "/os-keypairs/{name}", rule="os_compute_api:os-keypairs:show", late=True, query=ONE_QUERY)
def show_keypair(call: Call) -> dict[str, Any]:
    """Show a key pair"""
    user_id = _user(call)
    with call.service.db.read() as conn:
        row = logic.get_keypair(conn, user_id, call.params["name"])
    view = {
        **_view(call, row),
        "id": row["id"],
        "user_id": row["user_id"],
        "created_at": clock.iso_micro(row["created_at"]),
        "updated_at": None,
        "deleted": False,
        "deleted_at": None,
    }
    return {"keypair": view}


@operations("DELETE", "/os-keypairs/{name}", rule="os_compute_api:os-keypairs:delete", late=True, query=ONE_QUERY)
def delete_keypair(call: Call) -> Reply:
    """Delete a key pair"""
    logic.delete_keypair(call.service, _user(call), call.params["name"])
    return Reply(None, status=204 if call.at_least(2, 2) else 202)
