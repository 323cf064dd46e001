"""`pileus backup` and `pileus restore`: databases, keys, images and configuration in one tar file.

Databases are copied first, each as one consistent snapshot taken by SQLite itself, while the cloud runs; image files
after them: a file that is newer than its database is a leftover that a loop removes, never a row without data.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sqlite3
import tarfile
import tempfile

from pileus.cli.session import home_of, load_config
from pileus.cli.terminal import Problem, Steps
from pileus.kernel import clock
from pileus.kernel.config import Config
from pileus.server import rooms, supervisor

FORMAT = 1
_FILES = ("pileus.toml", "run-options.json", "initial.json", "clouds.yaml")
_FOLDERS = ("keys", "etc")


def backup(arguments: argparse.Namespace) -> int:
    """Write the file; it holds secrets and is readable by its owner alone."""
    home = home_of(arguments)
    config = load_config(home)
    if config.database.url:
        raise Problem(
            "The databases are on a server of their own: back them up with its tools (pg_dump, mariadb-dump)."
        )
    if not (home / "databases").exists():
        raise Problem(f"There is no cloud in {home}.")
    target = pathlib.Path(arguments.file).absolute()
    steps = Steps(quiet=arguments.quiet)
    scratch = target.with_name(f".{target.name}.part")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
            with steps.step("databases"):
                _add_databases(tar, config)
            with steps.step("keys and configuration"):
                _add_files(tar, home)
            with steps.step("images"):
                _add_images(tar, home)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(target)
    finally:
        scratch.unlink(missing_ok=True)
    steps.say(f"{target} holds this cloud without the disks of its guests. It contains its keys: keep it safe.")
    return 0


def _add_databases(tar: tarfile.TarFile, config: Config) -> None:
    with tempfile.TemporaryDirectory(dir=config.home) as folder:
        manifest = {"format": FORMAT, "taken_at": clock.iso(clock.utcnow()), "services": config.pileus.services}
        path = pathlib.Path(folder) / "manifest.json"
        path.write_text(json.dumps(manifest))
        tar.add(path, "manifest.json")
        for room in rooms.enabled(config):
            copy = pathlib.Path(folder) / f"{room.name}.sqlite"
            source = sqlite3.connect(f"file:{config.home}/databases/{room.name}.sqlite?mode=ro", uri=True)
            snapshot = sqlite3.connect(copy)
            with source, snapshot:
                source.backup(snapshot)
            source.close()
            snapshot.close()
            tar.add(copy, f"databases/{room.name}.sqlite")
            copy.unlink()


def _add_files(tar: tarfile.TarFile, home: pathlib.Path) -> None:
    for name in _FILES:
        if (home / name).exists():
            tar.add(home / name, name)
    for name in _FOLDERS:
        if (home / name).exists():
            tar.add(home / name, name)


def _add_images(tar: tarfile.TarFile, home: pathlib.Path) -> None:
    store = home / "images"
    for path in sorted(store.rglob("*")):
        relative = path.relative_to(home)
        if path.is_file() and relative.parts[1] not in {"cache", "staging"}:
            try:
                tar.add(path, str(relative))
            except FileNotFoundError:
                continue  # its image was deleted meanwhile


def restore(arguments: argparse.Namespace) -> int:
    """Put a backup into an empty home; `pileus up` then starts it."""
    home = home_of(arguments)
    source = pathlib.Path(arguments.file).absolute()
    if not source.exists():
        raise Problem(f"There is no file {source}.")
    if supervisor.running(home) is not None or (home / "databases").exists():
        raise Problem(
            f"There is a cloud in {home} already. Remove it with `pileus destroy --yes`, or choose another --home."
        )
    steps = Steps(quiet=arguments.quiet)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with steps.step("restore"), tarfile.open(source, "r|") as tar:
        first = tar.next()
        manifest = tar.extractfile(first) if first is not None and first.name == "manifest.json" else None
        if manifest is None or json.loads(manifest.read())["format"] != FORMAT:
            raise Problem(f"{source} is not a backup that this release can read.")
        for member in tar:
            member.mode = 0o700 if member.isdir() else 0o600
            tar.extract(member, home, filter="data")
    steps.say("Restored. Start it with `pileus up`.")
    return 0
