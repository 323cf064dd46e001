"""A private slapd for tests: on loopback, with TLS, that can be killed, frozen and started again.

It is a child of the test process and dies with it. Where slapd is not installed its tests are skipped, or fail under CI=true.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import ipaddress
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator

from tests.databases import missing
from tools.cloud import free_port

SUFFIX = "dc=example,dc=org"
ADMIN, SECRET = f"cn=admin,{SUFFIX}", "directory-secret"
PEOPLE, GROUPS = f"ou=people,{SUFFIX}", f"ou=groups,{SUFFIX}"
MODULES = "/usr/lib/ldap"

_SCHEMA = """
attributetype ( 1.3.6.1.4.1.55555.1.1 NAME 'enabled' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.55555.1.2 NAME 'userAccountControl' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.55555.1.3 NAME 'objectGUID' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.55555.2.1 NAME 'account2' SUP top AUXILIARY MAY ( enabled $ userAccountControl $ objectGUID ) )
"""


class Slapd:
    """One private server. `url` and `tls_url` are its addresses, `ca` signs its certificate, which is for 127.0.0.1 and localhost."""

    def __init__(self, *, size_limit: int = 0) -> None:
        program = shutil.which("slapd", path="/usr/sbin:/usr/bin")
        if program is None:
            missing("slapd")
        self.program = program
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pileus-slapd-"))
        self.port, self.tls_port = free_port(), free_port()
        self.size_limit = size_limit
        self.ca = make_certificates(self.folder)
        (self.folder / "data").mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()
        self.add(SUFFIX, "dcObject", "organization", dc="example", o="Example")
        self.add(PEOPLE, "organizationalUnit", ou="people")
        self.add(GROUPS, "organizationalUnit", ou="groups")

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def start(self) -> None:
        (self.folder / "site.schema").write_text(_SCHEMA)
        limit = f"limits dn.exact=\"{ADMIN}\" size.soft={self.size_limit} size.hard=soft size.pr=100 size.prtotal=unlimited\n" if self.size_limit else ""
        (self.folder / "slapd.conf").write_text(
            "".join(f"include /etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson", "nis"))
            + f"include {self.folder}/site.schema\nmodulepath {MODULES}\nmoduleload back_mdb\n"
            + f"TLSCertificateFile {self.folder}/server.pem\nTLSCertificateKeyFile {self.folder}/server.key\nTLSVerifyClient never\n"
            + f"database mdb\nmaxsize 67108864\nsuffix {SUFFIX}\nrootdn cn=root,{SUFFIX}\nrootpw {SECRET}\ndirectory {self.folder}/data\n{limit}"
            + f"dbnosync\naccess to attrs=userPassword by anonymous auth by * none\naccess to * by users read by * none\n"
        )
        urls = f"{self.url}/ {self.tls_url}/"
        argv = [self.program, "-d", "0", "-f", str(self.folder / "slapd.conf"), "-h", urls]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.tls_port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("slapd does not listen")

    def kill(self) -> None:
        """SIGKILL; `start` brings it back with what was in it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """It takes connections and answers nothing from now on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # Content ----------------------------------------------------------------------------------------------------------

    def _link(self):
        import ldap3

        return ldap3.Connection(
            ldap3.Server("127.0.0.1", self.port, get_info=ldap3.NONE), f"cn=root,{SUFFIX}", SECRET, auto_bind=True, check_names=False
        )

    def add(self, dn: str, *classes: str, **attributes) -> str:
        """An entry; `attributes` are values or lists of them."""
        with self._link() as link:
            assert link.add(dn, list(classes), attributes), link.result
        return dn

    def add_person(self, uid: str, password: str | None = None, *, tree: str = PEOPLE, **attributes) -> str:
        values = {"cn": uid, "sn": attributes.pop("sn", uid), **attributes}
        if password is not None:
            values["userPassword"] = password
        return self.add(f"uid={uid},{tree}", "inetOrgPerson", "account2", uid=uid, **values)

    def add_people(self, count: int, prefix: str) -> None:
        with self._link() as link:
            for number in range(count):
                uid = f"{prefix}{number:04}"
                link.add(f"uid={uid},{PEOPLE}", ["inetOrgPerson"], {"cn": uid, "sn": uid})

    def add_group(self, cn: str, *members: str) -> str:
        return self.add(f"cn={cn},{GROUPS}", "groupOfNames", cn=cn, ou=cn, member=list(members) or [f"cn=nobody,{SUFFIX}"])

    def change(self, dn: str, **attributes) -> None:
        """Other values; an empty list removes the attribute."""
        import ldap3

        with self._link() as link:
            changes = {name: [(ldap3.MODIFY_REPLACE, values if isinstance(values, list) else [values])] for name, values in attributes.items()}
            assert link.modify(dn, changes), link.result

    def remove(self, dn: str) -> None:
        with self._link() as link:
            assert link.delete(dn), link.result


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A server that takes every connection and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        taken: list[socket.socket] = []
        ended = threading.Event()

        def take() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    taken.append(listener.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


def make_certificates(folder: pathlib.Path, name: str = "server") -> pathlib.Path:
    """An authority, whose path is returned, and `server.pem` with `server.key` for 127.0.0.1 and localhost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = dt.datetime.now(dt.UTC)

    def make(subject: str, issuer: str, key, signer, *, ca: bool):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256())

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(make("test authority", "test authority", authority, authority, ca=True).public_bytes(pem))
    (folder / f"{name}.pem").write_bytes(make("localhost", "test authority", key, authority, ca=False).public_bytes(pem))
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(plain)
    return folder / "ca.pem"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)
