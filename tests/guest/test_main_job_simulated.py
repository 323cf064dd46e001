"""The client part of the main job on a simulated cloud, all of it as an ordinary user: no root, no network, no hypervisor."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.steps import ClientSteps, Job, delete_everything
from tests.guest.stock import CLIENTS, as_ordinary_user, readable_by_others
from tests.sandbox import TOP, Sandbox, possible
from tools.cloud import Cloud

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="class")
def job() -> Iterator[Job]:
    with Sandbox() as host:
        for needed in (TOP, sys.executable, CLIENTS / "python"):
            readable_by_others(host.run, Path(needed))
        home = host.dir / "home"
        home.mkdir()
        for path in (host.dir, home):
            shutil.chown(path, 65534, 65534)
        run = as_ordinary_user(host.run, home)
        cloud = Cloud(home / "pileus", run, settings={"PYTHONPYCACHEPREFIX": str(home / "pycache")})
        cloud.up()
        yield Job(cloud, run, home)


@pytest.mark.skipif(not possible(), reason="test hosts need root")
class TestMainJobSimulated(ClientSteps):
    def test_the_cloud_runs_without_root(self, job: Job) -> None:
        owners = {path.stat().st_uid for path in job.cloud.home.rglob("*")}
        assert owners == {65534}

    def test_everything_is_deleted_again(self, job: Job) -> None:
        delete_everything(job)

    def test_it_stops_and_starts_with_what_it_had(self, job: Job) -> None:
        job.demo("network", "create", "main-kept")
        job.cloud.down()
        job.cloud.up()
        assert job.demo("network", "show", "main-kept")["status"] == "ACTIVE"

    def test_destroy_removes_its_home(self, job: Job) -> None:
        job.cloud.pileus("destroy", "--yes")
        assert not job.cloud.home.exists()
