"""Each check of the doctor, with a host that is healthy except in one thing."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import socket
from pathlib import Path

import pytest
from pileus.cli import doctor, facts
from pileus.cli.facts import CertificateFacts, DatabaseFacts, Facts
from pileus.cli.session import load_config
from pileus.kernel import clock
from pileus.kernel.certificates import Authority


class Healthy(Facts):
    """A host on which a real cloud runs well; keywords replace single answers."""

    def __init__(self, home: Path, *, overrides=None, **answers) -> None:
        super().__init__(load_config(home, overrides or {}))
        self.answers = {
            "supervisor": 7, "processes": {"api-0": 8, "agent": 9}, "kvm": (True, "a guest ran"), "port_owner": None, "memory_mb": 8000,
            "disk_mb": 50_000, "has_command": True, "has_module": True, "is_root": True, "forwards": True, "forward_policies_that_drop": [],
            "open_files": [], "brokers": [("mq:5672", "")], "databases": [DatabaseFacts("compute", "0002", "0002", 0.01)], "cloud": ([], ""), "certificates": [], **answers,
        }  # fmt: skip
        for name in self.answers:
            setattr(self, name, lambda *given, name=name: self._answer(name, *given))

    def _answer(self, name, *given):
        answer = self.answers[name]
        return answer(*given) if callable(answer) else answer


def found(home: Path, **answers):
    return [(finding.check, finding.level, finding.what) for finding in doctor.examine(Healthy(home, **answers))]


def test_a_healthy_host_has_no_findings(tmp_path):
    assert found(tmp_path) == []


def test_missing_kvm_is_told_and_is_no_problem(tmp_path):
    [(check, level, what)] = found(tmp_path, kvm=(False, "/dev/kvm is not there"))
    assert (check, level) == ("kvm", "info")
    assert "/dev/kvm is not there" in what


def test_a_port_that_another_process_has_is_named_with_it(tmp_path):
    [(check, level, what)] = found(tmp_path, supervisor=None, processes={}, port_owner="nginx (pid 5)")
    assert (check, level) == ("port", "problem")
    assert what == "Port 5000 of 127.0.0.1 is taken by nginx (pid 5)."


def test_our_own_port_is_no_problem_while_we_run(tmp_path):
    assert found(tmp_path, port_owner="pileus-api-0 (pid 8)") == []


def test_every_classical_port_is_looked_at(tmp_path):
    answers = found(tmp_path, supervisor=None, processes={}, port_owner=lambda port: "other (pid 5)" if port == 9696 else None, overrides={"api": {"endpoints": "ports"}})
    assert [what for _, _, what in answers] == ["Port 9696 of 127.0.0.1 is taken by other (pid 5)."]


def test_too_little_memory_is_a_problem_before_the_start(tmp_path):
    assert [check for check, _, _ in found(tmp_path, supervisor=None, processes={}, memory_mb=100)] == ["memory"]


def test_too_little_disk_is_a_problem(tmp_path):
    [(check, level, what)] = found(tmp_path, disk_mb=100)
    assert (check, level) == ("disk", "problem")
    assert "100 MiB" in what


def test_missing_commands_come_with_their_packages(tmp_path):
    findings = doctor.examine(Healthy(tmp_path, has_command=lambda name: name not in {"nft", "qemu-img"}))
    assert [(finding.check, finding.what) for finding in findings] == [("commands", "Commands are missing: qemu-img, nft.")]
    assert "apt-get install nftables qemu-utils" in findings[0].todo


def test_real_drivers_want_root_and_libvirt(tmp_path):
    assert [check for check, _, _ in found(tmp_path, is_root=False, has_module=False)] == ["root", "libvirt"]


def test_a_simulated_cloud_needs_nothing_of_the_host(tmp_path):
    nothing = {"kvm": (False, "none"), "has_command": False, "has_module": False, "is_root": False, "forwards": False}
    assert found(tmp_path, overrides={"pileus": {"simulate": True}}, forward_policies_that_drop=["x"], **nothing) == []


def test_forwarding_that_is_off_is_a_problem_while_we_run(tmp_path):
    assert [check for check, _, _ in found(tmp_path, forwards=False)] == ["forwarding"]
    assert found(tmp_path, forwards=False, supervisor=None, processes={}) == []


def test_a_firewall_that_drops_is_named(tmp_path):
    [(check, _, what)] = found(tmp_path, forward_policies_that_drop=["the chain FORWARD of table ip filter drops forwarded packets by policy"])
    assert (check, what) == ("firewall", "The chain FORWARD of table ip filter drops forwarded packets by policy.")


def test_a_secret_that_others_can_read_is_named(tmp_path):
    key = tmp_path / "keys" / "fernet" / "0"
    key.parent.mkdir(parents=True)
    key.write_bytes(b"secret")
    key.chmod(0o600)
    real = Facts(load_config(tmp_path))
    assert real.open_files() == []
    key.chmod(0o640)
    assert real.open_files() == [key]
    [(check, level, what)] = found(tmp_path, open_files=[key])
    assert (check, level) == ("files", "problem")
    assert str(key) in what


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (DatabaseFacts("image", "0001", "0002"), "at revision 0001, the newest is 0002"),
        (DatabaseFacts("image", None, "0002"), "at revision none, the newest is 0002"),
        (DatabaseFacts("image", "0003", "0002"), "has revision 0003, this release knows 0002"),
        (DatabaseFacts("image", newest="0002", error="connection refused"), "connection refused"),
    ],
)
def test_a_database_that_is_not_at_its_newest_revision_or_unreadable_is_named(tmp_path, entry, what):
    [(check, level, sentence)] = found(tmp_path, databases=[entry])
    assert (check, level) == ("database", "problem")
    assert "database of image" in sentence
    assert what in sentence


@pytest.mark.parametrize("skew", [5.0, -5.0])
def test_a_database_server_with_another_time_is_named(tmp_path, skew):
    [(check, _, what)] = found(tmp_path, databases=[DatabaseFacts("image", "0001", "0001", skew)])
    assert check == "clock"
    assert f"{skew:+.1f} s" in what


def test_a_broker_that_cannot_be_used_is_named(tmp_path):
    [(check, level, what)] = found(tmp_path, brokers=[("a:5672", ""), ("b:5672", "Connection refused")])
    assert (check, level, what) == ("broker", "problem", "The broker b:5672 cannot be used: Connection refused")


def test_brokers_are_really_asked(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken and not listening: refused
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        [(where, error)] = Facts(load_config(tmp_path, {"bus": {"url": f"amqp://user:secret@{address}/"}})).brokers()
    assert where == address, "without the password"
    assert "refused" in error
    assert Facts(load_config(tmp_path)).brokers() == [], "there is none on Unix sockets"


def test_a_dead_supervisor_with_living_children_is_named(tmp_path):
    [(check, level, what)] = found(tmp_path, supervisor=None)
    assert (check, level) == ("supervisor", "problem")
    assert what == "The supervisor is dead while api-0 (pid 8), agent (pid 9) live."


def test_a_process_that_is_not_there_is_named(tmp_path):
    assert [what for _, _, what in found(tmp_path, processes={"api-0": 8, "agent": 0})] == ["Not running: agent."]


def test_silent_agents_are_named_each(tmp_path):
    answers = found(tmp_path, cloud=(["nova-compute on b", "DHCP agent on b"], ""))
    assert [(check, what) for check, _, what in answers] == [
        ("agents", "nova-compute on b does not report."),
        ("agents", "DHCP agent on b does not report."),
    ]


def test_a_cloud_that_does_not_answer_is_a_problem(tmp_path):
    assert [check for check, _, _ in found(tmp_path, cloud=([], "Connection refused"))] == ["services"]


def test_every_problem_says_what_to_do(tmp_path):
    broken = {
        "kvm": (False, "none"), "disk_mb": 1, "has_command": False, "has_module": False, "is_root": False, "forwards": False,
        "forward_policies_that_drop": ["a"], "open_files": [Path("/k")], "databases": [DatabaseFacts("image", error="x")],
        "brokers": [("mq:5672", "refused")],
        "processes": {"agent": 0}, "cloud": (["a"], "b"),
    }  # fmt: skip
    findings = doctor.examine(Healthy(tmp_path, **broken))
    checks = ["kvm", "disk", "root", "commands", "libvirt", "forwarding", "firewall", "files", "database", "broker", "processes"]
    checks += ["services", "agents"]
    assert [finding.check for finding in findings] == checks
    assert all(finding.todo for finding in findings)


def test_the_listener_of_a_port_is_found(tmp_path):
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))
        mine.listen()
        port = mine.getsockname()[1]
        owner = Facts(load_config(tmp_path, {"api": {"port": port}})).port_owner(port)
        assert owner is not None and owner.endswith(f"(pid {os.getpid()})")
    assert facts.listener_of(port) is None


def test_a_database_file_that_is_none_is_unreadable(tmp_path):
    (tmp_path / "databases").mkdir()
    (tmp_path / "databases" / "image.sqlite").write_bytes(b"not a database" * 100)
    entries = {entry.service: entry for entry in Facts(load_config(tmp_path)).databases()}
    assert "database of image cannot be read" in entries["image"].error
    assert (entries["compute"].present, entries["compute"].error) == (None, "")
    assert not (tmp_path / "databases" / "compute.sqlite").exists(), "looking makes nothing"


def test_the_exit_code_and_the_json_say_whether_all_is_well(tmp_path, capsys, monkeypatch):
    for disk, code in ((50_000, 0), (1, 1)):
        monkeypatch.setattr(doctor, "Facts", lambda config, disk=disk: Healthy(tmp_path, disk_mb=disk))
        assert doctor.run(argparse.Namespace(home=str(tmp_path), json=True)) == code
        report = json.loads(capsys.readouterr().out)
        assert report["healthy"] is (code == 0)
        assert [finding["check"] for finding in report["findings"]] == ["disk"] * code


def test_a_certificate_that_ends_soon_is_named_with_how_to_renew_it(tmp_path):
    now = clock.utcnow()
    ends = [CertificateFacts("the API", now + dt.timedelta(days=100), ""), CertificateFacts("node one", now + dt.timedelta(days=3), "renew it")]
    [(check, level, what)] = found(tmp_path, certificates=ends)
    assert (check, level, what) == ("certificate", "problem", "The certificate of node one ends in 3.0 days.")
    [(_, _, what)] = found(tmp_path, certificates=[CertificateFacts("this node", now - dt.timedelta(days=1), "")])
    assert what == "The certificate of this node has ended."


def test_a_node_is_not_asked_for_databases_ports_and_the_cloud(tmp_path):
    answers = {"port_owner": "nginx (pid 5)", "databases": [DatabaseFacts("compute", "0001", "0002")], "cloud": (["x"], "away")}
    assert found(tmp_path, overrides={"pileus": {"roles": ["compute"]}}, **answers) == []
    assert found(tmp_path, overrides={"pileus": {"roles": ["compute"]}}, supervisor=None, processes={}, **answers) == []


def test_a_machine_without_guests_needs_no_hypervisor(tmp_path):
    nothing = {"kvm": (False, "none"), "has_command": False, "has_module": False, "is_root": False, "forwards": False}
    assert found(tmp_path, overrides={"pileus": {"roles": ["controller"]}}, **nothing) == []


def test_the_certificate_of_the_api_is_read(tmp_path):
    authority = Authority.make()
    _, chain = authority.server("c", ["c"])
    (tmp_path / "c.pem").write_bytes(chain)
    config = load_config(tmp_path, {"api": {"certificate": str(tmp_path / "c.pem"), "key": str(tmp_path / "c.pem")}})
    [certificate] = Facts(config).certificates()
    assert certificate.of == "the API"
    assert 820 < (certificate.ends - clock.utcnow()).days < 826
