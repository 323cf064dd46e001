"""The main job with the stock clients, step by step: what every user of a cloud does, on any cloud.

A class of steps that run in order on one cloud. test_main_job.py runs them on a real one and goes on inside the guests;
test_main_job_simulated.py runs them as an ordinary user on a simulated one.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.guest.stock import IMAGE, Run, User, wait_until
from tools.cloud import Cloud

USER_DATA = "#!/bin/sh\necho MAIN-JOB user-data ran as $(id -un)\necho once >> /root/user-data-ran\n"
RANGE = "10.77.0.0/24"


class Job:
    """What the steps make and the later ones use. Asking for what an earlier step did not make fails with its name."""

    def __init__(self, cloud: Cloud, run: Run, files: Path) -> None:
        self.cloud, self.run, self.files = cloud, run, files
        self.admin, self.demo = User(run, cloud.variables("admin")), User(run, cloud.variables("demo"))
        flavors = [row for row in self.demo("flavor", "list") if row["RAM"] >= 128 and row["Disk"] >= 1]
        self.flavor = min(flavors, key=lambda row: (row["RAM"], row["Disk"]))["Name"]
        self.external = self.demo("network", "list", "--external")[0]["Name"]

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"an earlier step did not make {name!r}")


class ClientSteps:
    """Steps on any cloud; the fixture `job` is of the class' scope."""

    def test_every_service_is_in_the_catalog(self, job: Job) -> None:
        assert {"identity", "image", "compute", "placement", "network"} <= {row["Type"] for row in job.demo("catalog", "list")}
        assert {row["State"] for row in job.admin("compute", "service", "list")} == {"up"}
        assert {row["Alive"] for row in job.admin("network", "agent", "list")} == {True}

    def test_a_new_cloud_has_what_a_first_user_needs(self, job: Job) -> None:
        assert job.demo("image", "list", "--status", "active")
        assert job.demo("keypair", "list")
        own = [row for row in job.demo("network", "list", "--internal") if row["Subnets"]]
        assert own
        assert job.demo("router", "list")

    @pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
    def test_an_image_is_uploaded_and_comes_back_as_it_was(self, job: Job, disk_format: str) -> None:
        file = job.files / f"guest.{disk_format}"
        if disk_format == "qcow2":
            shutil.copy(IMAGE, file)
        else:
            job.run(["qemu-img", "convert", "-O", "raw", IMAGE, file])
        job.demo("image", "create", "--disk-format", disk_format, "--container-format", "bare", "--file", file, f"main-{disk_format}")
        image = wait_until("active image", lambda: (i := job.demo("image", "show", f"main-{disk_format}"))["status"] == "active" and i, 60)
        content = file.read_bytes()
        assert image["size"] == len(content)
        assert image["checksum"] == hashlib.md5(content).hexdigest()
        assert image["properties"]["os_hash_value"] == hashlib.sha512(content).hexdigest()
        job.demo.text("image", "save", "--file", job.files / "back", f"main-{disk_format}")
        assert (job.files / "back").read_bytes() == content

    def test_a_key_pair_is_generated(self, job: Job) -> None:
        key = job.files / "main-key"
        job.demo.text("keypair", "create", "--private-key", key, "main-key")
        job.run(["chmod", "600", str(key)])
        public = job.run(["ssh-keygen", "-y", "-f", key]).stdout.split()[1]
        assert public in job.demo.text("keypair", "show", "--public-key", "main-key")
        job.key = key

    def test_a_key_pair_is_imported(self, job: Job) -> None:
        key = job.files / "imported-key"
        job.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
        made = job.demo("keypair", "create", "--public-key", f"{key}.pub", "main-imported")
        fingerprint = job.run(["ssh-keygen", "-E", "md5", "-l", "-f", f"{key}.pub"]).stdout.split()[1]
        assert made["fingerprint"] == fingerprint.removeprefix("MD5:")
        assert {"main-key", "main-imported"} <= {row["Name"] for row in job.demo("keypair", "list")}
        job.imported_key = key

    def test_a_network_is_connected_to_the_outside_by_a_router(self, job: Job) -> None:
        job.demo("network", "create", "main")
        subnet = job.demo("subnet", "create", "--network", "main", "--subnet-range", RANGE, "--dns-nameserver", "192.0.2.53", "main")
        assert subnet["gateway_ip"] == "10.77.0.1"
        job.demo("router", "create", "main")
        job.demo.text("router", "set", "--external-gateway", job.external, "main")
        job.demo.text("router", "add", "subnet", "main", "main")
        router = job.demo("router", "show", "main")
        assert router["external_gateway_info"]["external_fixed_ips"]
        assert [i["ip_address"] for i in router["interfaces_info"]] == ["10.77.0.1"]

    def test_a_security_group_gets_its_rules(self, job: Job) -> None:
        job.demo("security", "group", "create", "main")
        for options in (["--protocol", "tcp", "--dst-port", "22"], ["--protocol", "tcp", "--dst-port", "80"], ["--protocol", "icmp"]):
            job.demo("security", "group", "rule", "create", *options, "main")
        rules = job.demo("security", "group", "rule", "list", "main")
        ingress = {(r["IP Protocol"], r["Port Range"]) for r in rules if r["Direction"] == "ingress"}
        assert ingress == {("tcp", "22:22"), ("tcp", "80:80"), ("icmp", "")}
        assert sum(r["Direction"] == "egress" for r in rules) == 2
        refused = job.demo.refused("security", "group", "rule", "create", "--protocol", "icmp", "main")
        assert "already exists" in refused

    def test_a_server_is_created_and_becomes_active(self, job: Job) -> None:
        (job.files / "user-data").write_text(USER_DATA)
        server = job.demo(
            "server", "create", "--image", "main-qcow2", "--flavor", job.flavor, "--key-name", "main-key", "--network", "main",
            "--security-group", "main", "--user-data", job.files / "user-data", "--property", "purpose=main-job", "--wait", "main-1", timeout=240,
        )  # fmt: skip
        assert server["status"] == "ACTIVE"
        job.server, job.address = server["id"], server["addresses"]["main"][0]
        assert job.address.startswith("10.77.0.")

    def test_a_server_is_shown_listed_and_filtered(self, job: Job) -> None:
        shown = job.demo("server", "show", "main-1")
        assert shown["id"] == job.server
        assert shown["key_name"] == "main-key"
        assert shown["security_groups"] == [{"name": "main"}]
        assert shown["properties"] == {"purpose": "main-job"}
        assert shown["status"] == "ACTIVE"
        for options in (["--name", "^main-1$"], ["--status", "ACTIVE"], ["--ip", f"^{job.address}$"], ["--flavor", job.flavor], ["--image", "main-qcow2"]):
            assert job.server in {row["ID"] for row in job.demo("server", "list", *options)}, options
        for options in (["--name", "^nobody$"], ["--status", "SHUTOFF"], ["--ip", "^10.77.0.254$"], ["--image", "main-raw"]):
            assert job.server not in {row["ID"] for row in job.demo("server", "list", *options)}, options
        everybodys = {row["ID"]: row for row in job.admin("server", "list", "--all-projects", "--long")}
        assert everybodys[job.server]["Host"]
        ports = job.demo("port", "list", "--server", "main-1", "--long")
        assert [(p["Status"], p["Fixed IP Addresses"][0]["ip_address"]) for p in ports] == [("ACTIVE", job.address)]

    def test_the_console_log_is_shown(self, job: Job) -> None:
        assert wait_until("console output", lambda: job.demo.console("main-1").strip(), 120, every=2)

    def test_a_floating_ip_is_associated(self, job: Job) -> None:
        job.floating = job.demo("floating", "ip", "create", job.external)["floating_ip_address"]
        job.demo.text("server", "add", "floating", "ip", "main-1", job.floating)
        assert set(job.demo("server", "show", "main-1")["addresses"]["main"]) == {job.address, job.floating}
        shown = wait_until("active floating IP", lambda: (f := job.demo("floating", "ip", "show", job.floating))["status"] == "ACTIVE" and f, 60)
        assert shown["fixed_ip_address"] == job.address

    def test_the_python_sdk_makes_a_server_from_a_raw_image_with_a_config_drive(self, job: Job) -> None:
        made = job.demo.sdk(f"""
            server = cloud.create_server(name="main-sdk", image="main-raw", flavor={job.flavor!r}, network="main", key_name="main-key",
                                         config_drive=True, security_groups=["main"], auto_ip=False, wait=True, timeout=240)
            ports = list(cloud.network.ports(device_id=server.id))
            found = [s.id for s in cloud.compute.servers(name="^main-sdk$")]
            answer = {{"id": server.id, "status": server.status, "ports": len(ports), "found": found, "drive": server.has_config_drive}}
        """, timeout=300)  # fmt: skip
        assert (made["status"], made["ports"], made["found"]) == ("ACTIVE", 1, [made["id"]])
        job.sdk_server = made["id"]

    def test_what_is_not_allowed_is_refused_with_a_reason(self, job: Job) -> None:
        assert "403" in job.demo.refused("flavor", "create", "--ram", "64", "--disk", "1", "--vcpus", "1", "mine")
        assert "409" in job.demo.refused("network", "delete", "main")  # it has ports
        assert "400" in job.demo.refused("server", "create", "--image", "main-qcow2", "--flavor", job.flavor, "--network", "main", "--key-name", "none", "x")
        assert job.demo("server", "list", "--name", "^x$") == []

    def test_a_server_is_stopped_started_and_rebooted(self, job: Job) -> None:
        def status() -> str:
            return str(job.demo("server", "show", "main-sdk")["status"])

        job.demo.text("server", "stop", "main-sdk")
        wait_until("SHUTOFF", lambda: status() == "SHUTOFF", 120)
        assert "409" in job.demo.refused("server", "stop", "main-sdk")
        job.demo.text("server", "start", "main-sdk")
        wait_until("ACTIVE", lambda: status() == "ACTIVE", 120)
        job.demo.text("server", "reboot", "--hard", "--wait", "main-sdk", timeout=240)
        assert status() == "ACTIVE"
        job.demo.text("server", "reboot", "--soft", "--wait", "main-sdk", timeout=240)
        assert status() == "ACTIVE"
        actions = [row["Action"] for row in job.demo("server", "event", "list", "main-sdk")]
        assert {"create", "stop", "start", "reboot"} <= set(actions)


def delete_everything(job: Job) -> None:
    """The last step: what the others made is deleted by the same clients."""
    servers = [row["ID"] for row in job.demo("server", "list")]
    job.demo.text("server", "delete", "--wait", *servers, timeout=240)
    assert job.demo("server", "list") == []
    job.demo.text("floating", "ip", "delete", job.floating)
    job.demo.text("router", "remove", "subnet", "main", "main")
    job.demo.text("router", "delete", "main")
    wait_until("a network without ports", lambda: not job.demo("port", "list", "--network", "main", "--device-owner", "compute:nova"), 60)
    job.demo.text("network", "delete", "main")
    job.demo.text("security", "group", "delete", "main")
    job.demo.text("keypair", "delete", "main-key", "main-imported")
    job.demo.text("image", "delete", "main-qcow2", "main-raw")
    for kind in (["network"], ["subnet"], ["router"], ["security", "group"], ["keypair"], ["image"]):
        assert not [row for row in job.demo(*kind, "list") if row["Name"].startswith("main")], kind
    left = job.admin.sdk("""
        answer = {}
        for provider in cloud.placement.resource_providers():
            answer[provider.name] = cloud.placement.get(f"/resource_providers/{provider.id}/allocations").json()["allocations"]
    """)
    assert not any(left.values())
