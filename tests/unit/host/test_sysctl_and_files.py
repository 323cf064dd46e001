"""Files written as a whole, and the record of settings that were changed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from pileus.host import sysctl
from pileus.host.sysctl import Recorder, replace_file


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "sys"
    (root / "net").mkdir(parents=True)
    (root / "net" / "a").write_text("0\n")
    (root / "net" / "b").write_text("7\n")
    monkeypatch.setattr(sysctl, "_ROOT", root)
    return root


def test_the_first_value_is_recorded_and_restored(settings: Path, tmp_path: Path) -> None:
    record = tmp_path / "host-state.json"
    recorder = Recorder(record)
    assert recorder.set("net/a", "1")
    assert recorder.set("net/a", "2")
    assert not recorder.set("net/a", "2")
    assert json.loads(record.read_text()) == {"sysctls": {"net/a": "0"}}
    assert Recorder(record).recorded("net/a") == "0"
    Recorder(record).restore()
    assert (settings / "net" / "a").read_text().strip() == "0"
    assert not record.exists()


def test_what_others_keep_in_the_record_stays(settings: Path, tmp_path: Path) -> None:
    record = tmp_path / "host-state.json"
    record.write_text('{"other": 1}')
    recorder = Recorder(record)
    recorder.set("net/b", "8")
    recorder.restore()
    assert json.loads(record.read_text()) == {"other": 1}


def test_a_setting_whose_interface_has_gone_is_skipped(settings: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "host-state.json")
    recorder.set("net/a", "1")
    (settings / "net" / "a").unlink()
    recorder.restore()
    assert not (settings / "net" / "a").exists()


def test_a_setting_the_kernel_lacks_is_an_error(settings: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="net/none"):
        Recorder(tmp_path / "host-state.json").set("net/none", "1")


def test_a_file_is_replaced_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert replace_file(path, b"one")
    assert not replace_file(path, b"one")
    assert replace_file(path, b"two")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"two", 0o600)
    assert [each.name for each in tmp_path.iterdir()] == ["f"]
