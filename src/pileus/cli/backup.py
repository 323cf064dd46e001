"""`pileus backup` and `pileus restore`: databases, keys, images and configuration in one tar file.

Databases are copied first, each as one consistent snapshot taken by SQLite itself, while the cloud runs; image files
after them: a file that is newer than its database is a leftover that a loop removes, never a row without data.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from pileus.cli.session import home_of, load_controller
from pileus.cli.terminal import Problem, Steps
from pileus.kernel import clock
from pileus.kernel.config import Config
from pileus.server import rooms

FORMAT = 1
_FILES = ("pileus.toml", "run-options.json", "initial.json", "clouds.yaml")
_FOLDERS = ("keys", "etc", "tls")
_SCRATCH = ".restoring"


def backup(arguments: argparse.Namespace) -> int:
    """Write the file; it holds secrets and is readable by its owner alone."""
    home = home_of(arguments)
    config = load_controller(home)
    if config.database.url:
        raise Problem(
            "The databases are on a server of their own: back them up with its tools (pg_dump, mariadb-dump), and keep a copy"
            f" of {home}/keys: the token keys in them are encrypted."
        )
    if not (home / "databases").exists():
        raise Problem(f"There is no cloud in {home}.")
    target = pathlib.Path(arguments.file).absolute()
    steps = Steps(quiet=arguments.quiet)
    scratch = target.with_name(f".{target.name}.part")
    with _stoppable():
        _write(target, scratch, config, steps)
    steps.say(f"{target} holds this cloud without the disks of its guests. It contains its keys: keep it safe.")
    elsewhere = config.section("image").store_directory
    if elsewhere:
        steps.say(f"The image files are in {elsewhere} and not in it: keep a copy of that folder too.")
    return 0


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Whoever ends us by SIGTERM or SIGHUP leaves no half of a file either."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(target: pathlib.Path, scratch: pathlib.Path, config: Config, steps: Steps) -> None:
    """The file appears under its name when it is whole and on the disk. Raises Problem when there is no place for it."""
    home = config.home
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise Problem(f"{target} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w|") as tar:
                with steps.step("databases"):
                    _add_databases(tar, config)
                with steps.step("keys and configuration"):
                    _add_files(tar, home)
                with steps.step("images"):
                    _add_images(tar, home)
            file.flush()  # after the end mark of the archive
            os.fsync(file.fileno())
        scratch.rename(target)
    except OSError as error:
        raise Problem(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        scratch.unlink(missing_ok=True)


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
    if home.exists() and any(home.iterdir()):
        raise Problem(
            f"{home} is not empty: a cloud is there already. Remove it with `pileus destroy --yes`, or choose another --home."
        )
    steps = Steps(quiet=arguments.quiet)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = home / _SCRATCH
    try:
        with _stoppable(), steps.step("restore"):
            scratch.mkdir(mode=0o700)
            _extract(source, scratch)
            for entry in sorted(scratch.iterdir()):
                entry.rename(home / entry.name)
    except BaseException:
        for entry in home.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        raise
    scratch.rmdir()
    steps.say("Restored. Start it with `pileus up`.")
    return 0


def _extract(source: pathlib.Path, folder: pathlib.Path) -> None:
    """All members of a backup. Raises Problem for a file that is none, is damaged, or has members that no backup has."""
    try:
        with tarfile.open(source, "r|") as tar:
            first = tar.next()
            manifest = tar.extractfile(first) if first is not None and first.name == "manifest.json" else None
            if manifest is None or json.loads(manifest.read()).get("format") != FORMAT:
                raise Problem(f"{source} is not a backup that this release can read.")
            while (member := tar.next()) is not None:
                if not _belongs(member):
                    raise Problem(f"{source} is not a backup of ours: it has {member.name!r} in it. Nothing was restored.")
                _put(tar, member, folder)
    except (tarfile.TarError, EOFError, ValueError, AttributeError) as error:
        raise Problem(f"{source} is not a backup, or damaged: {error}. Nothing was restored.") from error
    except OSError as error:
        raise Problem(f"{source} cannot be restored: {error.strerror or error}. Nothing was restored.") from error


def _put(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: pathlib.Path) -> None:
    """One member that belongs, private whatever the archive says. (Debian 12's tarfile has no extraction filters.)"""
    target = folder.joinpath(*pathlib.PurePosixPath(member.name).parts)
    if member.isdir():
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None, "a regular file has content"
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def _belongs(member: tarfile.TarInfo) -> bool:
    """Is it a plain file or folder in a place that backups have? Links and devices are never ours."""
    parts = pathlib.PurePosixPath(member.name).parts
    if not (member.isreg() or member.isdir()) or not parts or ".." in parts:
        return False
    return parts[0] in {*_FOLDERS, "databases", "images"} or (len(parts) == 1 and parts[0] in _FILES)
