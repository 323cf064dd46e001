"""The house rules a machine can check: who may import whom, sizes, and words that have no place here.

The rules are those of the house layout (docs/tour.md): a service is one folder with the same inner rooms, services meet only
at their public REST APIs, and each inner room has a short list of what it may use. `EXCEPTIONS` is the only way around, one line
and one reason each.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SOURCE = TOP / "src"
SHARED_ROOMS = {"kernel", "clients", "host", "server", "cli", "dashboard"}
LONGEST_FILE = 500
LONGEST_FUNCTION = 60

# inner room -> what it may import: "kernel" (all of it), "kernel.x", "clients", "host", "own.x" (inside its own service)
MAY_IMPORT: dict[str, set[str]] = {
    "room": {"kernel", "own"},
    "errors": {"kernel.errors"},
    "options": {"kernel.config", "own.agent.options", "own.drivers.options"},
    "policy": {"kernel.policy"},
    "wire": set(),
    "store": {"kernel", "own.store", "own.errors"},
    "logic": {"kernel", "clients", "own.logic", "own.store", "own.errors", "own.options", "own.wire", "own.policy"},
    "flows": {"kernel", "clients", "own.flows", "own.logic", "own.store", "own.errors", "own.options", "own.wire", "own.agent.client"},
    "loops": {"kernel", "clients", "own.loops", "own.logic", "own.store", "own.errors", "own.options", "own.wire", "own.agent.client"},
    "api": {"kernel", "own.api", "own.logic", "own.store", "own.errors", "own.options", "own.policy"},
    "agent": {"kernel", "clients", "own.agent", "own.drivers", "own.errors", "own.options", "own.wire"},
    "drivers": {"kernel.log", "kernel.errors", "kernel.clock", "kernel.ids", "host", "own.drivers", "own.errors", "own.options", "own.wire"},
}  # fmt: skip
NEVER: dict[str, set[str]] = {
    "store": {"kernel.web", "kernel.bus"},
    "logic": {"kernel.web"},
    "flows": {"kernel.web"},
    "loops": {"kernel.web"},
    "api": {"kernel.flows", "kernel.bus", "kernel.loops"},
    "agent": {"kernel.db", "kernel.web"},
}
SHARED_MAY_IMPORT: dict[str, set[str]] = {
    "kernel": {"kernel"},
    "clients": {"kernel", "clients"},
    "host": {"host", "kernel.log", "kernel.errors", "kernel.clock"},
    "server": {"kernel", "clients", "host", "server", "*.room"},
    "cli": {"kernel", "clients", "host", "server", "cli", "*.room"},
    "dashboard": {"dashboard"},
}
# tests own time, chance and ids through kernel.clock and kernel.ids
ONLY_FROM_KERNEL = {"time", "random", "secrets", "os.urandom", "uuid.uuid1", "uuid.uuid4", "datetime.now", "datetime.utcnow", "datetime.datetime.now"}

# (importing module, imported module): reason
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("pileus.network.agent.metadata", "pileus.host.netns"): "its listening sockets are opened inside namespaces, by the process that serves them",
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((SOURCE / "pileus").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(name: str, path: Path) -> set[str]:
    """Every module or attribute a module imports, with full dotted names, wherever in the file."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def matches(target: str, pattern: str) -> bool:
    return target == pattern or target.startswith(f"{pattern}.")


def allowed(name: str, target: str) -> bool:
    """May module `name` import `target`? Both are full names inside pileus."""
    _, room, *inner = name.split(".")
    short = target.removeprefix("pileus.")
    if room in SHARED_ROOMS:
        rules = SHARED_MAY_IMPORT[room]
        return any(matches(short, rule) for rule in rules) or ("*.room" in rules and short.split(".")[1:2] == ["room"])
    if not inner:  # a service's own __init__
        return False
    if short.split(".")[0] == room:
        short = "own" + short.removeprefix(room)
    return any(matches(short, rule) for rule in MAY_IMPORT.get(inner[0], set())) and not any(
        matches(short, rule) for rule in NEVER.get(inner[0], set())
    )


def test_every_module_imports_only_what_its_room_may() -> None:
    breaches = [
        f"{name} imports {target}"
        for name, path in modules()
        for target in sorted(imports(name, path))
        if target.startswith("pileus.") and name != "pileus" and not allowed(name, target)
        if not any(name == importer and matches(target, imported) for importer, imported in EXCEPTIONS)
    ]
    assert not breaches, "\n".join(["imports against the house layout:", *breaches])


def test_every_exception_is_still_needed() -> None:
    real = {(name, target) for name, path in modules() for target in imports(name, path)}
    idle = [pair for pair in EXCEPTIONS if not any(pair[0] == name and matches(target, pair[1]) for name, target in real)]
    assert not idle


def test_services_have_only_the_known_inner_rooms() -> None:
    odd = sorted({".".join(name.split(".")[1:3]) for name, _ in modules() if len(name.split(".")) > 2 and name.split(".")[1] not in SHARED_ROOMS and name.split(".")[2] not in MAY_IMPORT})  # fmt: skip
    assert not odd, f"folders or files that no rule speaks of: {odd}"


def test_time_chance_and_ids_come_from_the_kernel() -> None:
    breaches = [
        f"{name} uses {used}"
        for name, path in modules()
        if not name.startswith("pileus.kernel")
        for used in sorted(imports(name, path) | {ast.unparse(n) for n in ast.walk(tree_of(path)) if isinstance(n, ast.Attribute)})
        if any(matches(used, word) for word in ONLY_FROM_KERNEL)
        if not any(name == importer and matches(used, word) for importer, word in EXCEPTIONS)
    ]
    assert not breaches, "\n".join(breaches)


def test_no_module_imports_itself_through_others() -> None:
    """Cycles among module-level imports: the order of imports would decide whether a program starts."""
    known = dict(modules())
    graph = {name: {t for target in top_level_imports(name, path) if (t := owner(target, known)) and t != name} for name, path in known.items()}
    done: set[str] = set()
    cycles: list[str] = []

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            cycles.append(" -> ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for target in sorted(graph[name]):
                visit(target, [*trail, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    assert not cycles, "\n".join(cycles)


def top_level_imports(name: str, path: Path) -> set[str]:
    body = [node for node in tree_of(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    module = ast.Module(body=list(body), type_ignores=[])
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in module.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def owner(target: str, known: dict[str, Path]) -> str | None:
    """The module that an imported name belongs to."""
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target if target != "pileus" else None


def test_files_stay_below_500_lines() -> None:
    long = {str(path.relative_to(TOP)): n for _, path in modules() if (n := path.read_text().count("\n")) > LONGEST_FILE}
    assert not long


def test_functions_stay_short() -> None:
    long = [
        f"{path.relative_to(TOP)}:{node.lineno} {node.name}: {size} lines"
        for _, path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (size := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
        if "migrations" not in path.parts  # generated, one function each
    ]
    assert not long, "\n".join(long)


def test_host_commands_never_pass_through_a_shell() -> None:
    breaches = [
        f"{path.relative_to(TOP)}:{node.lineno}"
        for _, path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        if any(k.arg == "shell" and not (isinstance(k.value, ast.Constant) and k.value.value is False) for k in node.keywords)
        or ast.unparse(node.func) in {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
    ]
    assert not breaches


# paths of one machine, and where the project came from, say nothing to a reader; put together here so that this file has none
FOREIGN_WORDS = [r"(?<![\w.])/" + r"work/", "/tmp/" + "brief", r"\.\./" + "shared", "the " + "brief\\b", "before" + "-stop"]


def test_no_file_speaks_of_one_machine_or_workplace() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile("|".join(FOREIGN_WORDS))
    breaches = []
    for name in filter(None, listed.stdout.split("\0")):
        path = TOP / name
        if not path.is_file() or path.suffix in {".jsonl", ".png", ".ico"}:
            continue
        lines = path.read_text(errors="replace").splitlines()
        breaches += [f"{name}:{number}: {line.strip()[:100]}" for number, line in enumerate(lines, 1) if pattern.search(line)]
    assert not breaches, "\n".join(breaches)
