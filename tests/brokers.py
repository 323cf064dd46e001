"""A private RabbitMQ for tests, over TCP and mutual TLS on loopback, that can be killed and started again.

It runs in a process namespace of its own, whose end takes every helper with it (epmd too), also when the tests are killed.
Where RabbitMQ is not installed its tests are skipped, or fail under CI=true.
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

from tests.databases import missing, stat_of
from tools.cloud import free_port

SERVER = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


EPMD = pathlib.Path("/usr/bin/epmd")


@dataclasses.dataclass(frozen=True)
class Membership:
    """What a broker has to know of the cluster that it is one of."""

    names: list[str]
    place: int
    epmd_port: int
    cookie: str
    tls: pathlib.Path  # the folder with the certificates of all

    @property
    def name(self) -> str:
        return self.names[self.place]


class RabbitMQ:
    """One private broker; `ca`, `certificate` and `key` are what a client needs at `tls_url`. Its folder has the authority's
    key too. With `managed` it has the management API at `management_url`, which costs seconds at each start. `address` is
    where nodes reach it by TLS; everything else stays on loopback. `start` is called here unless it is one of a cluster.
    """

    def __init__(self, *, managed: bool = False, address: str = "127.0.0.1", member: Membership | None = None) -> None:
        if not SERVER.exists():
            missing("RabbitMQ")
        self.address = address
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pileus-rabbit-"))
        self.port, self.tls_port, self.epmd_port, self.node_port, self.management_port = (free_port() for _ in range(5))
        self.member = member
        self.name = member.name if member else new_name()
        self.tls = member.tls if member else self.folder
        self.ca, self.certificate, self.key = (str(self.tls / name) for name in ("ca.pem", "client.pem", "client.key"))
        if member is None:
            make_certificates(self.folder, address)
        else:
            self.epmd_port = member.epmd_port
            (self.folder / ".erlang.cookie").write_text(member.cookie)
            (self.folder / ".erlang.cookie").chmod(0o400)
        (self.folder / "rabbitmq.conf").write_text(self._configuration())
        (self.folder / "plugins").write_text(f"[rabbitmq_auth_mechanism_ssl{', rabbitmq_management' if managed else ''}].\n")
        self.process: subprocess.Popen[bytes] | None = None
        if member is not None:
            return
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def management_url(self) -> str:
        return f"http://guest:guest@127.0.0.1:{self.management_port}"

    @property
    def tls_url(self) -> str:
        """Without a user: the certificate is one."""
        return f"amqps://{self.address}:{self.tls_port}/"

    def _configuration(self) -> str:
        lines = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "listeners.ssl.1": f"{self.address}:{self.tls_port}",
            "ssl_options.cacertfile": self.ca,
            "ssl_options.certfile": str(self.tls / "server.pem"),
            "ssl_options.keyfile": str(self.tls / "server.key"),
            "ssl_options.verify": "verify_peer",
            "ssl_options.fail_if_no_peer_cert": "true",
            "ssl_cert_login_from": "common_name",
            "auth_mechanisms.1": "PLAIN",
            "auth_mechanisms.2": "EXTERNAL",
            "disk_free_limit.absolute": "1MB",
            "loopback_users": "none",
            "management.tcp.ip": "127.0.0.1",
            "management.tcp.port": str(self.management_port),
        }
        if self.member is not None:
            lines |= {
                "cluster_formation.peer_discovery_backend": "classic_config",
                "cluster_formation.randomized_startup_delay_range.min": "0",
                "cluster_formation.randomized_startup_delay_range.max": "1",
                "cluster_partition_handling": "pause_minority",
                # The first one begins; it would wait for the others otherwise, and they for it.
                "cluster_formation.classic_config.nodes.1": self.member.names[0],
                "cluster_formation.classic_config.nodes.2": self.name,
            }
        return "".join(f"{name} = {value}\n" for name, value in lines.items())

    def start(self, patience: float = 90.0) -> None:
        self.launch()
        self.wait(patience)

    def launch(self) -> None:
        folder = self.folder
        environment = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(self.node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        argv = ["setpriv", "--pdeathsig=KILL", "unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
        if os.geteuid() != 0:
            argv += ["--user", "--map-root-user"]
        with (folder / "output").open("ab") as output:
            self.process = subprocess.Popen([*argv, str(SERVER)], stdout=output, stderr=output, env=environment, cwd=folder)

    def wait(self, patience: float = 90.0) -> None:
        """Until it answers."""
        assert self.process is not None
        folder, deadline = self.folder, time.monotonic() + patience
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("RabbitMQ does not start:\n" + (folder / "output").read_text()[-3000:])
            time.sleep(0.1)

    def _answers(self) -> bool:
        import amqp

        try:
            with amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=5, read_timeout=5):
                return True
        except (OSError, amqp.AMQPError):
            return False

    def kill(self) -> None:
        """SIGKILL to all of it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        deadline = time.monotonic() + 20
        while self._listens() and time.monotonic() < deadline:
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """To every process of it: SIGSTOP makes a broker that is there and says nothing."""
        assert self.process is not None
        family, grown = {self.process.pid}, True
        parents = {int(path.name): int(stat[1]) for path in pathlib.Path("/proc").glob("[0-9]*") if (stat := stat_of(int(path.name)))}
        while grown:
            more = {pid for pid, parent in parents.items() if parent in family} - family
            grown = bool(more)
            family |= more
        for pid in family - {self.process.pid}:
            os.kill(pid, number)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self, *queues: str) -> None:
        """Delete queues with what is in them."""
        import amqp

        with amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=5, read_timeout=5) as connection:
            for queue in queues:
                connection.channel().queue_delete(queue)

    def queue(self, name: str, **properties: object) -> tuple[int, int]:
        """How many messages and consumers a queue has; made with the properties when some are given."""
        import amqp

        with amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=5, read_timeout=5) as connection:
            found = connection.channel().queue_declare(name, passive=not properties, auto_delete=False, **properties)
            return found.message_count, found.consumer_count


class Cluster:
    """Three brokers that are one. Their epmd lives as long as the cluster: it must not die with the broker that needed it first."""

    def __init__(self, count: int = 3) -> None:
        if not SERVER.exists() or not EPMD.exists():
            missing("RabbitMQ")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pileus-rabbits-"))
        make_certificates(self.folder)
        port = free_port()
        argv = ["setpriv", "--pdeathsig=KILL", str(EPMD), "-port", str(port), "-address", "127.0.0.1"]
        self.epmd = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        names = [new_name() for _ in range(count)]
        cookie = uuid.uuid4().hex
        self.brokers = [RabbitMQ(member=Membership(names, place, port, cookie, self.folder)) for place in range(count)]
        try:
            self.start(self.brokers[0])
            self.start(*self.brokers[1:])
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return ";".join(broker.url for broker in self.brokers)

    @staticmethod
    def start(*brokers: RabbitMQ) -> None:
        """All at once: one that was killed may wait for the others to come back."""
        for broker in brokers:
            broker.launch()
        for broker in brokers:
            broker.wait()

    def stop(self) -> None:
        for broker in self.brokers:
            broker.stop()
        self.epmd.kill()
        self.epmd.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def new_name() -> str:
    return f"pileus{uuid.uuid4().hex[:8]}@localhost"


def make_certificates(folder: pathlib.Path, at: str = "127.0.0.1") -> None:
    """An authority, a server at an address, and a client that is the user guest."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    for common_name, file in (("authority", "ca"), ("broker", "server"), ("guest", "client")):
        is_authority = file == "ca"
        private = authority if is_authority else ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder().subject_name(name(common_name)).issuer_name(name("authority"))
        builder = builder.public_key(private.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=2))
        builder = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(at))])
        certificate = builder.add_extension(address, critical=False).sign(authority, hashes.SHA256())
        (folder / f"{file}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        encoding, encryption = serialization.Encoding.PEM, serialization.NoEncryption()
        (folder / f"{file}.key").write_bytes(private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, encryption))


if __name__ == "__main__":  # ADDRESS: a broker on a test host, until it is killed; prints where things are
    broker = RabbitMQ(managed=True, address=sys.argv[1])
    print(json.dumps({"folder": str(broker.folder), "tls_port": broker.tls_port, "management": broker.management_url}), flush=True)
    signal.pause()
