"""The unit of systemd."""

from __future__ import annotations

import configparser
import pathlib
import shutil
import subprocess

import pytest
from pileus.cli import unit, up
from pileus.cli.session import load_config
from pileus.cli.terminal import Problem
from pileus.host.run import CommandFailed


@pytest.fixture
def calls(monkeypatch):
    made: list[list[str]] = []
    monkeypatch.setattr(unit, "run", lambda argv, **_options: made.append(list(argv)))
    return made


def test_the_unit_runs_the_foreground_command_and_leaves_guests_alone():
    parsed = configparser.RawConfigParser()
    parsed.optionxform = str
    parsed.read_string(unit.text(pathlib.Path("/opt/pileus/bin/pileus"), pathlib.Path("/var/lib/pileus")))
    service = parsed["Service"]
    assert service["ExecStart"] == '"/opt/pileus/bin/pileus" --home "/var/lib/pileus" up --foreground'
    assert (service["KillMode"], service["Restart"]) == ("process", "on-failure")
    assert parsed["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_no_fault_with_the_unit(tmp_path):
    path = tmp_path / unit.NAME
    path.write_text(unit.text(pathlib.Path("/bin/true"), tmp_path / "a home with 100% $odd \"names\""))
    answer = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path], capture_output=True, text=True, timeout=60)
    assert unit.NAME not in answer.stderr, answer.stderr


def test_installing_writes_enables_and_starts_once(tmp_path, calls):
    unit.install(pathlib.Path("/var/lib/pileus"), tmp_path)
    assert (tmp_path / unit.NAME).stat().st_mode & 0o777 == 0o644
    assert [call[1] for call in calls] == ["daemon-reload", "enable", "start"]
    calls.clear()
    unit.install(pathlib.Path("/var/lib/pileus"), tmp_path)
    assert [call[1] for call in calls] == ["enable", "start"]


def test_removing_stops_it_first_and_is_nothing_where_there_is_none(tmp_path, calls):
    unit.remove(tmp_path)
    assert calls == []
    unit.install(pathlib.Path("/var/lib/pileus"), tmp_path)
    calls.clear()
    unit.remove(tmp_path)
    assert [call[1] for call in calls] == ["disable", "daemon-reload"]
    assert not (tmp_path / unit.NAME).exists()


def test_up_lets_systemd_start_it_where_systemd_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(unit, "is_wanted", lambda home: True)
    asked = []
    monkeypatch.setattr(unit, "install", asked.append)
    assert up.start(load_config(tmp_path)) is None
    assert asked == [tmp_path]


def test_up_says_it_when_systemd_does_not_start_it(tmp_path, monkeypatch):
    def fail(_home):
        raise CommandFailed(["systemctl", "start", "pileus.service"], 1, "", "ended with 1")

    monkeypatch.setattr(unit, "is_wanted", lambda home: True)
    monkeypatch.setattr(unit, "install", fail)
    with pytest.raises(Problem, match="systemd does not start pileus.service"):
        up.start(load_config(tmp_path))


def test_only_the_home_of_the_machine_is_given_to_systemd(tmp_path):
    assert not unit.is_wanted(tmp_path)
