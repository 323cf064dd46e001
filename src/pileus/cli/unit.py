"""`pileus.service`: where systemd runs the machine, it runs Pileus. `pileus up` writes the unit, `pileus destroy` removes it."""

from __future__ import annotations

import os
import pathlib
import sys

from pileus.host.run import run
from pileus.kernel.config import default_home

FOLDER = pathlib.Path("/etc/systemd/system")
NAME = "pileus.service"


def is_wanted(home: pathlib.Path) -> bool:
    """Does systemd run this machine, are we root, and is it the machine's own home? Others are started by hand.

    So is a cloud with options in the environment, which systemd would not see: the unit knows pileus.toml alone.
    """
    there = pathlib.Path("/run/systemd/system").is_dir()
    options = any(name.startswith("PILEUS_") and "__" in name for name in os.environ)
    return there and not options and os.geteuid() == 0 and home == pathlib.Path("/var/lib/pileus") == default_home()


def text(command: pathlib.Path, home: pathlib.Path) -> str:
    """The unit. Stopping it stops Pileus alone: guests and what serves them are no business of systemd's."""
    return f"""\
[Unit]
Description=Pileus, the cloud of this machine
Wants=network-online.target
After=network-online.target libvirtd.service

[Service]
Type=exec
ExecStart={_quoted(str(command))} --home {_quoted(str(home))} up --foreground
KillMode=process
Restart=on-failure
RestartSec=2
TimeoutStopSec=130
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def _quoted(word: str) -> str:
    """One word of a command line, whatever is in it: systemd has quotes, escapes, specifiers and variables of its own."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def own_command() -> pathlib.Path:
    """The `pileus` beside the Python that runs now."""
    return pathlib.Path(sys.executable).with_name("pileus")


def install(home: pathlib.Path, folder: pathlib.Path = FOLDER) -> None:
    """Write the unit if it is another, enable it, and start it."""
    path, wanted = folder / NAME, text(own_command(), home)
    if not path.exists() or path.read_text() != wanted:
        path.write_text(wanted)
        path.chmod(0o644)
        run(["systemctl", "daemon-reload"])
    run(["systemctl", "enable", "--quiet", NAME])
    run(["systemctl", "start", NAME], timeout=90)


def is_installed(folder: pathlib.Path = FOLDER) -> bool:
    return (folder / NAME).exists()


def remove(folder: pathlib.Path = FOLDER) -> None:
    """Stop, disable and delete the unit, where there is one."""
    if not is_installed(folder):
        return
    run(["systemctl", "disable", "--now", "--quiet", NAME], timeout=150)
    (folder / NAME).unlink()
    run(["systemctl", "daemon-reload"])
