"""Write docs/configuration.md from the options that the code declares. `--check`: only say whether it is current."""

from __future__ import annotations

import pathlib
import sys
import typing

import msgspec

from pileus.kernel.config import KERNEL_SECTIONS
from pileus.server import rooms

TARGET = pathlib.Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = """# Configuration

Options stand in `PILEUS_HOME/pileus.toml`; an environment variable `PILEUS_<SECTION>__<OPTION>` goes above the file. An
unknown or wrong option stops the start with a sentence that names it. This page is made by `tools/configuration.py`.
"""


def text() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, section in {**KERNEL_SECTIONS, **rooms.option_types()}.items():
        parts.append(f"\n## [{name}]\n\n| option | type | default | meaning |\n|---|---|---|---|\n")
        parts += [line(field) for field in msgspec.structs.fields(section)]
    return "".join(parts)


def line(field: msgspec.structs.FieldInfo) -> str:
    kind, meaning = field.type, ""
    if typing.get_origin(kind) is typing.Annotated:
        kind, *notes = typing.get_args(kind)
        meaning = next((note.description for note in notes if isinstance(note, msgspec.Meta) and note.description), "")
    default = field.default if field.default is not msgspec.NODEFAULT else None
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    shown = getattr(kind, "__name__", str(kind)) if typing.get_origin(kind) is None else str(kind).replace("typing.", "")
    return f"| `{field.name}` | {shown.replace('|', '&#124;')} | `{default!r}` | {meaning.replace('|', '&#124;')} |\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        raise SystemExit(0 if TARGET.exists() and TARGET.read_text() == text() else f"{TARGET.name} is not current")
    TARGET.write_text(text())
