"""Identity in a test: with its initial content, spoken to with real tokens."""

from __future__ import annotations

from typing import Any

import orjson

from pileus.identity.logic import bootstrap, tokens
from pileus.identity.room import ROOM
from pileus.kernel.testing import NOBODY, Response, make_client
from pileus.kernel.web.auth import Authenticator

PASSWORD = "admin-secret"
CATALOG = [
    {"service_type": "identity", "service_name": "keystone", "url": "http://c/identity/v3", "region": "RegionOne"},
    {"service_type": "volumev3", "service_name": "cinder", "url": "http://c/volume/v3/$(project_id)s", "region": "RegionOne"},
]


class Identity:
    def __init__(self, **options: Any) -> None:
        fast = {"password_hash_memory": 8, "password_hash_time": 1, **options.pop("options", {})}
        self.client = make_client(ROOM, options=fast, **options)
        self.service = self.client.service
        self.ids = bootstrap.bootstrap(self.service, PASSWORD, CATALOG, {"nova": "nova-secret"})
        self.client.app.authenticator = Authenticator(
            lambda token: orjson.loads(tokens.validate(self.service, token).json)["token"],
            lambda: tokens.current_revision(self.service),
        )
        self.admin = self.token("admin", PASSWORD)

    def __call__(
        self, method: str, path: str, json: Any = None, *, token: str | None = "", headers: Any = None, ok: int | None = None, **more: Any
    ) -> Response:
        """One request below /v3; as the administrator of a project unless `token` says otherwise (None: nobody).

        `assertion` (see TestClient) is what a trusted proxy says of who is asking.
        """
        sent = dict(headers or {})
        if token is not None:
            sent["X-Auth-Token"] = token or self.admin
        response = self.client.request(method, "/v3" + path, json=json, headers=sent, as_=NOBODY, **more)
        assert ok is None or response.status == ok, f"{method} {path}: {response.status} {response.text}"
        return response

    def login(self, user: str, password: str, scope: Any = None, *, domain: str = "default", query: str = "") -> Response:
        who = {"name": user, "domain": {"id": domain}, "password": password}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": who}}}
        if scope is not None:
            auth["scope"] = scope
        return self("POST", f"/auth/tokens{query}", {"auth": auth}, token=None)

    def token(self, user: str, password: str, scope: Any = ..., **options: Any) -> str:
        if scope is ...:
            scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        answer = self.login(user, password, scope, **options)
        assert answer.status == 201, answer.text
        return answer.headers["x-subject-token"]

    def exchange(self, token: str, scope: Any = None) -> Response:
        auth: dict[str, Any] = {"identity": {"methods": ["token"], "token": {"id": token}}}
        if scope is not None:
            auth["scope"] = scope
        return self("POST", "/auth/tokens", {"auth": auth}, token=None)

    def validate(self, token: str, *, by: str = "", query: str = "") -> Response:
        return self("GET", f"/auth/tokens{query}", token=by, headers={"X-Subject-Token": token})

    def make(self, kind: str, **body: Any) -> dict[str, Any]:
        """A user, group, project, domain, role, region, service or endpoint."""
        plural = f"{kind}s"
        return self("POST", f"/{plural}", {kind: body}, ok=201).json[kind]

    def user(self, name: str, **body: Any) -> dict[str, Any]:
        return self.make("user", name=name, password=body.pop("password", f"{name}-secret"), **body)

    def role(self, name: str) -> str:
        return self.ids[f"role_{name}"]

    def grant(self, role: str, *, user: str = "", group: str = "", project: str = "", domain: str = "", inherited: bool = False):
        actor = f"users/{user}" if user else f"groups/{group}"
        target = f"/projects/{project}" if project else f"/domains/{domain}" if domain else "/system"
        path = f"{target}/{actor}/roles/{self.ids.get('role_' + role, role)}"
        path = f"/OS-INHERIT{path}/inherited_to_projects" if inherited else path
        self("PUT", path, ok=204)
        return path

    def member(self, name: str, *roles: str, **project: Any) -> tuple[dict[str, Any], dict[str, Any], str]:
        """A user with roles on a project of their own, and a token for it."""
        made = self.make("project", name=f"project-of-{name}", **project)
        who = self.user(name)
        for role in roles or ("member",):
            self.grant(role, user=who["id"], project=made["id"])
        return who, made, self.token(name, f"{name}-secret", {"project": {"id": made["id"]}})


def roles_of(answer: Response) -> set[str]:
    return {role["name"] for role in answer.json["token"]["roles"]}


def message(answer: Response) -> str:
    return answer.json["error"]["message"]
