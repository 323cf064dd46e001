"""Smaller commands of an operator: keys, TLS, databases, single services, the guest image."""

from __future__ import annotations

import argparse
import ipaddress
import os
import pathlib
import shutil
import socket

from pileus.cli.session import home_of, load_config, load_controller
from pileus.cli.terminal import Problem, Steps
from pileus.kernel.certificates import Authority, private_pem
from pileus.server import databases, rooms, supervisor
from pileus.server.secrets import write_private


def rotate_keys(arguments: argparse.Namespace) -> int:
    """A new key is staged, the staged one is used from now on; tokens stay valid, stored secrets are encrypted anew."""
    config = load_controller(home_of(arguments))
    if arguments.credentials:
        many = databases.rotate_credential_keys(config)
        Steps(quiet=arguments.quiet).say(f"The credential keys are rotated; {many} secret{'s'[: many != 1]} encrypted anew.")
        return 0
    databases.rotate_token_keys(config)
    kept = max(config.section("identity").max_active_keys - 2, 0)
    what = f"tokens that are out stay valid for {kept} more rotation{'s'[: kept != 1]}" if kept else "older tokens have ended"
    Steps(quiet=arguments.quiet).say(f"The token keys are rotated; {what}.")
    return 0


def upgrade(arguments: argparse.Namespace) -> int:
    """Bring all databases to this release."""
    config = load_controller(home_of(arguments))
    applied = databases.upgrade_all(config)
    for service, revisions in applied.items():
        print(f"{service}: {', '.join(revisions)}")
    if not applied:
        print("All databases are at the newest revision.")
    return 0


def run_services(arguments: argparse.Namespace) -> int:
    """Run some services in this terminal; their peers are reached over HTTP."""
    home = home_of(arguments)
    overrides = {"api": {"port": arguments.port}} if arguments.port else {}
    config = load_config(home, overrides)
    local = [rooms.room(name) for name in arguments.services]
    os.umask(0o077)
    supervisor.Supervisor(config, supervisor.bind(config), local).run()
    return 0


def make_tls(arguments: argparse.Namespace) -> int:
    """A CA of this installation's own, and a certificate for its addresses."""
    home = home_of(arguments)
    config = load_config(home)
    folder = home / "tls"
    if (folder / "server.pem").exists() and not arguments.renew:
        raise Problem(f"There is a certificate in {folder} already; --renew makes a new one.")
    names = {config.host, socket.getfqdn(), "localhost", *arguments.names}
    addresses = {"127.0.0.1", "::1"}
    for name in [config.api.host, *arguments.names]:
        try:
            addresses.add(str(ipaddress.ip_address(name)))
            names.discard(name)
        except ValueError:
            names.add(name)
    authority = authority_of(folder)
    key, chain = authority.server(config.host, [*sorted(names), *sorted(addresses)])
    write_private(folder / "server.pem", chain)
    write_private(folder / "server.key", key)
    print(f'[api]\ncertificate = "{folder}/server.pem"\nkey = "{folder}/server.key"')
    Steps(quiet=arguments.quiet).say(f"Put these lines into {home}/pileus.toml; clients trust {folder}/ca.pem.")
    return 0


def authority_of(folder: pathlib.Path) -> Authority:
    """The CA of an installation, made at first use."""
    if (folder / "ca.key").exists():
        return Authority.load(folder)
    made = Authority.make()
    write_private(folder / "ca.key", private_pem(made.key))
    write_private(folder / "ca.pem", made.pem)
    return made


def build_image(arguments: argparse.Namespace) -> int:
    """Put the guest image that `make install` built into the home."""
    from pileus.cli.initial import guest_file  # noqa: PLC0415 - one way to find it

    home = home_of(arguments)
    built = guest_file(home)
    if built is None:
        raise Problem("There is no guest image yet: `make install` in the checkout builds it.")
    target = home / "guest" / "guest.qcow2"
    if built != target:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(built, target)
    print(target)
    return 0
