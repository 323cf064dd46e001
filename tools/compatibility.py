"""Writes docs/compatibility.md: which of upstream's operations are served, from tests/conformance/operations and the declared
operations of the services.

    .venv/bin/python -m tools.compatibility            write the table; refused when an operation would be lost from it
    .venv/bin/python -m tools.compatibility --check    fail when the committed table is not current

The table may only grow: an operation that is no longer served is an error until its line is taken out by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pileus.kernel.room import Room
from pileus.kernel.web.microversions import show
from pileus.kernel.web.operations import Operation
from pileus.server import rooms

TOP = Path(__file__).resolve().parent.parent
LISTS = TOP / "tests/conformance/operations"
PAGE = TOP / "docs/compatibility.md"
LEFT_OUT = {"obsolete", "internal"}


@dataclasses.dataclass(frozen=True, order=True)
class Wanted:
    """One operation of upstream's API reference."""

    path: str
    method: str
    action: str = ""
    tag: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}" + (f" {self.action}" if self.action else "")


@dataclasses.dataclass(frozen=True)
class Upstream:
    """What upstream's service offers; operations that it has taken back itself are left out."""

    name: str
    types: tuple[str, ...]
    source: str
    operations: tuple[Wanted, ...]


@dataclasses.dataclass(frozen=True)
class Coverage:
    upstream: Upstream
    room: Room | None
    served: tuple[Wanted, ...]
    missing: tuple[Wanted, ...]
    beyond: tuple[str, ...]


def read_list(path: Path) -> Upstream:
    """One file of operations: `METHOD PATH [action=KEY] [tag=TAG]` below a head of comments."""
    head, found = {}, set()
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            name, _, value = line.lstrip("# ").partition(": ")
            head[name] = value
        elif line.strip():
            method, route, *more = line.split()
            facts = dict(fact.split("=", 1) for fact in more)
            if facts.get("tag") not in LEFT_OUT:
                found.add(Wanted(route, method, facts.get("action", ""), facts.get("tag", "")))
    source = head["source"].partition(" (")[0]
    return Upstream(head["service"], tuple(head["catalog-types"].split()), source, tuple(sorted(found)))


def coverage(upstream: Upstream, room: Room | None) -> Coverage:
    """Compare one service of upstream with ours of the same type."""
    declared = list(_declared(room)) if room else []
    served = tuple(wanted for wanted in upstream.operations if any(_serves(ours, wanted) for ours in declared))
    missing = tuple(wanted for wanted in upstream.operations if wanted not in served)
    beyond = {str(ours) for ours in declared if not any(_serves(ours, wanted) for wanted in upstream.operations)}
    return Coverage(upstream, room, served, missing, tuple(sorted(beyond)))


def _declared(room: Room) -> Iterator[Wanted]:
    for operation in room.operations():
        for path in _paths(room, operation):
            yield Wanted(path, operation.method, operation.action or "")


def _paths(room: Room, operation: Operation) -> Iterator[str]:
    for path in (operation.path, *operation.aliases):
        full = path if operation.root else room.base + path
        yield re.sub(r"\{([^}:]+):[^}]+\}", r"{\1}", full).rstrip("/") or "/"


def _serves(ours: Wanted, wanted: Wanted) -> bool:
    """The same method (GET answers HEAD too), action and shape of path.

    A parameter of ours stands for a word of upstream's only when more follows it: `/{kind}/{id}/tags` serves
    `/networks/{id}/tags`, but `/servers/{id}` does not serve `/servers/detail`.
    """
    if ours.action != wanted.action or (ours.method != wanted.method and (ours.method, wanted.method) != ("GET", "HEAD")):
        return False
    mine, theirs = ours.path.strip("/").split("/"), wanted.path.strip("/").split("/")
    if len(mine) != len(theirs):
        return False
    for number, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        variable, other = a.startswith("{"), b.startswith("{")
        if variable != other and not (variable and number < len(mine) - 1):
            return False
        if not variable and a != b:
            return False
    return True


def everything() -> list[Coverage]:
    """All services of upstream, those first that we have."""
    ours = {room.service_type: room for room in map(rooms.room, rooms.NAMES)}
    found = []
    for path in sorted(LISTS.glob("*.txt")):
        upstream = read_list(path)
        found.append(coverage(upstream, next((ours[kind] for kind in upstream.types if kind in ours), None)))
    return sorted(found, key=lambda entry: (entry.room is None, entry.upstream.name))


def page(found: Iterable[Coverage]) -> str:
    found = list(found)
    lines = [
        "# Compatibility",
        "",
        "Written by `python -m tools.compatibility` from the operations that the services declare and the lists of upstream's",
        "API reference in `tests/conformance/operations`; a test keeps it current. It may only grow. Operations that upstream itself",
        "has withdrawn are left out. That an operation is listed says that its route, method and action are answered by a handler; how",
        "far its behaviour is upstream's is said by the suites of `tests/conformance`.",
        "",
        "| service | type | served | of | microversions | compared with |",
        "|---|---|---:|---:|---|---|",
    ]
    for entry in found:
        versions = entry.room.microversions if entry.room else None
        spoken = f"{show(versions.min)} to {show(versions.max)}" if versions else ""
        kind = entry.room.service_type if entry.room else entry.upstream.types[0]
        numbers = f"{len(entry.served)} | {len(entry.upstream.operations)}"
        lines.append(f"| {entry.upstream.name} | {kind} | {numbers} | {spoken} | {entry.upstream.source} |")
    served, wanted = sum(len(e.served) for e in found), sum(len(e.upstream.operations) for e in found)
    lines.append(f"| all | | {served} | {wanted} | | |")
    for entry in found:
        if entry.room is None:
            continue
        lines += ["", f"## {entry.upstream.name}", ""]
        for title, operations in (
            ("Served", entry.served),
            ("Missing", entry.missing),
            ("Beyond upstream's reference", entry.beyond),
        ):
            if operations:
                lines += [f"{title}: {len(operations)}", "", "```", *map(str, operations), "```", ""]
        lines.pop()
    return "\n".join(lines) + "\n"


def served_in(text: str) -> set[tuple[str, str]]:
    """(service, operation) of what a page says is served."""
    found, service, inside, title = set(), "", False, ""
    for line in text.splitlines():
        if line.startswith("## "):
            service = line[3:]
        elif line == "```":
            inside = not inside
        elif inside and title == "Served":
            found.add((service, line))
        elif not inside and ":" in line:
            title = line.partition(":")[0]
    return found


def lost(before: str, after: str) -> list[str]:
    """What was served by an earlier page and is not by a later one."""
    return [f"{service}: {operation}" for service, operation in sorted(served_in(before) - served_in(after))]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write docs/compatibility.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is not current")
    check = parser.parse_args(arguments).check
    before = PAGE.read_text() if PAGE.exists() else ""
    after = page(everything())
    if gone := lost(before, after):
        print("no longer served (take the lines out of docs/compatibility.md by hand if that is meant):", *gone, sep="\n  ", file=sys.stderr)
        return 1
    if check:
        if before != after:
            print("docs/compatibility.md is not current: run python -m tools.compatibility", file=sys.stderr)
        return int(before != after)
    PAGE.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
