"""Every operation as every kind of caller sees it, with real tokens: what the policy decides, and about what.

`Personas` is an identity service with a token of each persona and things of their own, of their neighbours (same domain, same
project) and of strangers (another domain). `decide` calls an operation and stops it at the moment when the policy lets it pass,
so nothing is changed and every caller meets the same world. `python -m tests.api.identity.personas` writes the table of it.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pileus.identity.room import ROOM
from pileus.identity.store import tables
from pileus.kernel.errors import Failure
from pileus.kernel.web.operations import Operation
from tests.api.identity.test_access import smallest
from tests.api.identity.world import PASSWORD, Identity

TABLE = Path(__file__).with_name("access.txt")
FILLED = {"group": "ldap", "option": "url"}  # of the configuration of domains, where others are refused to everybody
NOWHERE = "f" * 32  # what a parameter is filled with that nobody made something for
OPERATIONS = [operation for operation in ROOM.operations() if operation.rule is not None]
COLUMNS = {
    "nobody": "nobody",
    "roleless": "no role, no scope",
    "p-reader": "reader of a project",
    "p-member": "member of a project",
    "p-manager": "manager of a project",
    "p-admin": "admin of a project",
    "d-reader": "reader of a domain",
    "d-manager": "manager of a domain",
    "d-admin": "admin of a domain",
    "s-reader": "reader of the system",
    "s-member": "member of the system",
    "s-admin": "admin of the system",
    "service": "role service on the project of services",
}
RELATIONS = {"s": "one's self", "h": "one's home: another user there, the project, the domain", "f": "foreign: another domain"}
QUERIES = {
    "GET /roles": ["domain_id={domain_id}"],
    "GET /role_assignments": ["include_subtree=1&scope.project.id={project_id}"],
    "GET /OS-TRUST/trusts": ["trustor_user_id={user_id}", "trustee_user_id={user_id}"],
}


class LetIn(Failure):
    """The policy lets the request pass; it goes no further."""

    status = 418


@dataclasses.dataclass(frozen=True)
class Asked:
    """One question to the policy and its answer."""

    rule: str
    context: Any
    target: dict[str, Any]
    allowed: bool


@dataclasses.dataclass(frozen=True)
class Place:
    """Ids by the names of path parameters, and a token that belongs there."""

    ids: dict[str, str]
    token: str


class Personas:
    def __init__(self, home: Path) -> None:
        self.identity = made = Identity(home=home)
        self.tokens: dict[str, str | None] = {"nobody": None}
        self.places: dict[tuple[str, str], Place] = {}
        self.asked: list[Asked] = []
        acme, other = made.make("domain", name="acme"), made.make("domain", name="other")
        here = self._things(acme["id"], "here")
        there = self._things(other["id"], "there")
        for who in COLUMNS:
            own = here
            if who != "nobody":
                user_id, self.tokens[who] = self._persona(who, acme["id"], here.ids["project_id"])
                own = Place(self._belongings({**here.ids, "user_id": user_id}), self.tokens[who])
            for relation, place in zip(RELATIONS, (own, here, there), strict=True):
                self.places[who, relation] = place
        self._check = made.service.policy.check
        made.service.policy.check = self._spy

    def _things(self, domain_id: str, name: str) -> Place:
        """A domain's user, group, project, and what belongs to the user."""
        made = self.identity
        project = made.make("project", name=name, domain_id=domain_id)["id"]
        user = made.user(f"user-{name}", domain_id=domain_id)["id"]
        made.grant("member", user=user, project=project)
        ids = {
            "domain_id": domain_id,
            "project_id": project,
            "user_id": user,
            "group_id": made.make("group", name=name, domain_id=domain_id)["id"],
            "role_id": made.role("member"),
            "limit_id": self._limit(project, name),
        }
        token = made.token(f"user-{name}", f"user-{name}-secret", {"project": {"id": project}}, domain=domain_id)
        return Place(self._belongings(ids), token)

    def _limit(self, project_id: str, name: str) -> str:
        made = self.identity
        service = made.make("service", type=name, name=name)["id"]
        place = {"service_id": service, "resource_name": "cores"}
        made("POST", "/registered_limits", {"registered_limits": [{**place, "default_limit": 1}]}, ok=201)
        body = {"limits": [{**place, "resource_limit": 2, "project_id": project_id}]}
        return made("POST", "/limits", body, ok=201).json["limits"][0]["id"]

    def _belongings(self, ids: dict[str, str]) -> dict[str, str]:
        """The ids, and those of a credential, an EC2 key and a trust of the user."""
        made, user, project = self.identity, ids["user_id"], ids["project_id"]
        body = {"credential": {"type": "cert", "blob": "x", "user_id": user}}
        trust = {"id": f"trust{user}"[:32], "trustor_user_id": user, "trustee_user_id": NOWHERE, "project_id": project}
        with made.service.db.write() as conn:
            conn.execute(tables.trusts.insert().values(impersonation=False, role_ids=[], extra={}, **trust))
        ec2 = made("POST", f"/users/{user}/credentials/OS-EC2", {"tenant_id": project}, ok=201).json["credential"]
        return {
            **ids,
            "credential_id": made("POST", "/credentials", body, ok=201).json["credential"]["id"],
            "access": ec2["access"],
            "trust_id": trust["id"],
        }

    def _persona(self, who: str, domain_id: str, project_id: str) -> tuple[str, str]:
        made = self.identity
        if who == "service":
            scope = {"project": {"name": "service", "domain": {"id": "default"}}}
            answer = made.login("nova", "nova-secret", scope)
            return answer.json["token"]["user"]["id"], answer.headers["x-subject-token"]
        user = made.user(who, domain_id=domain_id)["id"]
        kind, _, role = who.partition("-")
        scope: Any = "unscoped"
        if kind == "p":
            made.grant(role, user=user, project=project_id)
            scope = {"project": {"id": project_id}}
        elif kind == "d":
            made.grant(role, user=user, domain=domain_id)
            scope = {"domain": {"id": domain_id}}
        elif kind == "s":
            made.grant(role, user=user)
            scope = {"system": {"all": True}}
        return user, made.token(who, f"{who}-secret", scope, domain=domain_id)

    def _spy(self, rule: str, context: Any, target: Any) -> bool:
        allowed = self._check(rule, context, target)
        self.asked.append(Asked(rule, context, dict(target), allowed))
        if allowed:
            raise LetIn(rule)
        return False

    def decide(self, operation: Operation, who: str, relation: str, query: str = "") -> list[Asked]:
        """What the policy was asked on the way of this request; nothing where another answer came first."""
        place = self.places[who, relation]
        path = re.sub(r"\{([^}:]+)[^}]*\}", lambda found: place.ids.get(found.group(1), FILLED.get(found.group(1), NOWHERE)), operation.path)
        body = None
        if operation.bodies and operation.bodies[0][1] is not None:
            body = self._owned(operation, smallest(operation.bodies[0][1].schema), place)
        if query:
            path += "?" + query.format_map(place.ids)
        self.asked.clear()
        answer = self.identity(operation.method, path, body, token=self.tokens[who], headers={"X-Subject-Token": place.token})
        asked = list(self.asked)
        assert answer.status < 500, f"{who} {operation.method} {path}: {answer.text}"
        if who == "nobody":
            assert answer.status == 401 and not asked, f"{operation.method} {path} lets nobody in"
        elif asked:
            assert answer.status == (418 if asked[-1].allowed else 403), f"{who} {operation.method} {path}: {answer.text}"
        return asked

    def _owned(self, operation: Operation, body: Any, place: Place) -> Any:
        """The body, about things of this place wherever its schema has a name for them."""
        names = {**place.ids, "tenant_id": place.ids["project_id"], "trustor_user_id": place.ids["user_id"]}
        if operation.path == "/roles":  # one of a domain has other rules, which have the same defaults
            names.pop("domain_id")

        def fill(schema: Any, value: Any) -> None:
            for name, inner in schema.get("properties", {}).items():
                if name in names and inner.get("type") != "object":
                    value[name] = names[name]
                elif isinstance(value.get(name), dict):
                    fill(inner, value[name])
                elif isinstance(value.get(name), list) and isinstance(inner.get("items"), dict):
                    for item in value[name]:
                        if isinstance(item, dict):
                            fill(inner["items"], item)

        if isinstance(body, dict):
            fill(operation.bodies[0][1].schema, body)
        return body

    def look(self, operation: Operation, who: str, relation: str, query: str = "") -> str:
        """What a GET really answers, with the ids of this relation in its path."""
        place = self.places[who, relation]
        path = re.sub(r"\{([^}:]+)[^}]*\}", lambda found: place.ids.get(found.group(1), NOWHERE), operation.path)
        self.identity.service.policy.check = self._check
        try:
            return self.identity("GET", path + ("?" + query if query else ""), token=self.tokens[who], headers={"X-Subject-Token": place.token}).text
        finally:
            self.identity.service.policy.check = self._spy

    def rows(self) -> Iterator[tuple[str, str, dict[str, dict[str, list[Asked]]]]]:
        """(operation, query, decisions by persona and relation)."""
        for operation in OPERATIONS:
            name = f"{operation.method} {operation.path}"
            for query in ["", *QUERIES.get(name, ())]:
                found = {who: {one: self.decide(operation, who, one, query) for one in RELATIONS} for who in COLUMNS}
                yield name, query, found

    def close(self) -> None:
        self.identity.client.close()


def rendered(rows: list[tuple[str, str, dict[str, dict[str, list[Asked]]]]]) -> str:
    """The table: who may do what with whose things."""
    lines = [
        "Who may call each operation of identity, as its handlers decide. Written by `python -m tests.api.identity.personas`.",
        "",
        *(f"  {letter}  allowed with what is {words}" for letter, words in RELATIONS.items()),
        "  .  refused (403; nobody: 401)      ?  answered before the policy was asked: 404 for everybody",
        "",
        *(f"  {who:<10} {words}" for who, words in COLUMNS.items()),
        "",
        "".join(f"{who:<10}" for who in COLUMNS) + "operation",
    ]
    for name, query, found in sorted(rows, key=lambda row: (row[0].partition(" ")[2], row[0], row[1])):
        cells = "".join(f"{_cell(who, found[who]):<10}" for who in COLUMNS)
        lines.append(f"{cells}{name}{'?' + query if query else ''}")
    return "\n".join(lines) + "\n"


def _cell(who: str, decisions: dict[str, list[Asked]]) -> str:
    if who == "nobody":  # `decide` has looked at the 401
        return "."
    letters = ""
    for relation, asked in decisions.items():
        letters += (relation if asked[-1].allowed else ".") if asked else "?"
    return letters if letters != "..." else "."


def main() -> int:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        personas = Personas(Path(folder))
        TABLE.write_text(rendered(list(personas.rows())))
        personas.close()
    print(f"{TABLE.name}: {len(OPERATIONS)} operations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
