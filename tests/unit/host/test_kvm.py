"""Whether KVM works is found out by a guest, and remembered while nothing changes."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest

from pileus.host import kvm

pytestmark = pytest.mark.skipif(shutil.which(kvm.QEMU) is None, reason="needs QEMU")


def test_the_test_guest_runs_where_guests_run() -> None:
    assert kvm.try_guest("tcg", "qemu64").works


def test_a_guest_that_cannot_run_is_told_with_qemus_reason() -> None:
    answer = kvm.try_guest("tcg", "no-such-model")
    assert not answer.works
    assert "no-such-model" in answer.reason


def test_the_answer_is_kept_until_the_host_changes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "kvm.json"
    tries: list[int] = []

    def guest() -> kvm.KvmAnswer:
        tries.append(1)
        return kvm.KvmAnswer(True, "it ran")

    monkeypatch.setattr(kvm, "try_guest", guest)
    assert kvm.detect(cache) == kvm.detect(cache) == kvm.KvmAnswer(True, "it ran")
    assert len(tries) == 1
    assert cache.stat().st_mode & 0o777 == 0o600
    changed = json.loads(cache.read_text()) | {"key": ["another kernel"]}
    cache.write_text(json.dumps(changed))
    kvm.detect(cache)
    cache.write_text("nonsense")
    kvm.detect(cache)
    assert len(tries) == 3
