"""Smaller commands of an operator: keys, TLS, databases, single services, the guest image."""

from __future__ import annotations

import argparse
import datetime as dt
import ipaddress
import os
import pathlib
import shutil
import socket

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pileus.cli.session import home_of, load_config
from pileus.cli.terminal import Problem, Steps
from pileus.server import databases, rooms, supervisor
from pileus.server.secrets import write_private


def rotate_keys(arguments: argparse.Namespace) -> int:
    """A new token key is staged, the staged one signs from now on; tokens stay valid."""
    config = load_config(home_of(arguments))
    databases.rotate_token_keys(config)
    kept = max(config.section("identity").max_active_keys - 2, 0)
    what = f"tokens that are out stay valid for {kept} more rotation{'s'[: kept != 1]}" if kept else "older tokens have ended"
    Steps(quiet=arguments.quiet).say(f"The token keys are rotated; {what}.")
    return 0


def upgrade(arguments: argparse.Namespace) -> int:
    """Bring all databases to this release."""
    config = load_config(home_of(arguments))
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
    ca_key, ca = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    alternative = [x509.DNSName(name) for name in sorted(names)]
    alternative += [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(addresses)]  # type: ignore[misc]
    certificate = (
        _certificate(config.host, ca.subject, key.public_key(), days=825)
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    write_private(folder / "server.pem", certificate.public_bytes(pem) + ca.public_bytes(pem))
    write_private(folder / "server.key", _private(key))
    print(f'[api]\ncertificate = "{folder}/server.pem"\nkey = "{folder}/server.key"')
    Steps(quiet=arguments.quiet).say(f"Put these lines into {home}/pileus.toml; clients trust {folder}/ca.pem.")
    return 0


def _authority(folder: pathlib.Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """The CA, made at first use."""
    if (folder / "ca.key").exists():
        loaded = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        return loaded, x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pileus CA")])
    certificate = (
        _certificate("Pileus CA", name, key.public_key(), days=3650)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_private(folder / "ca.key", _private(key))
    write_private(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return key, certificate


def _certificate(
    name: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


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
