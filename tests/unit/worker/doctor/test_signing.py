"""What `edge-worker doctor` finds about the keys that the worker trusts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_schemas.signing.key_sets import fingerprint, key_id
from edge_service.findings import Finding, Status
from edge_worker.doctor.settings_checks import SourcedSettings, signing_finding
from edge_worker.settings import Settings
from edge_worker.signing.pinned_keys import FILE, PinnedKeys, trust_line
from support.signing.keys import SigningCentre, signing_centre


@pytest.fixture
def centre(tmp_path: Path) -> SigningCentre:
    return signing_centre(tmp_path / "centre")


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(state_dir=tmp_path, **more)


def examined(settings: Settings) -> Finding:
    return signing_finding(SourcedSettings(settings, {}, frozenset(), {}), datetime.now(UTC) + timedelta(days=3))


def test_what_is_trusted_and_since_when(tmp_path: Path, centre: SigningCentre) -> None:
    own = settings(tmp_path)
    assert "trusts no signing key" in examined(own).detail
    assert trust_line(own) == "Signatures of jobs are not checked."
    PinnedKeys(tmp_path, own).offer(centre.sets)
    finding = examined(own)
    assert finding.status is Status.OK
    assert f"SHA256:{key_id(centre.keys[0])}; set 1, 3 days, from first" in finding.detail
    assert f"SHA256:{fingerprint(centre.keys[0])}" in trust_line(own)


def test_an_owners_file_counts_from_the_next_start_and_nothing_is_written(
    tmp_path: Path, centre: SigningCentre
) -> None:
    own = settings(tmp_path, signing_keys=centre.public_file)
    assert "from its next start" in examined(own).detail
    assert not (tmp_path / FILE).exists()
    PinnedKeys(tmp_path, own)
    assert "from file" in examined(own).detail


def test_what_keeps_every_task_from_running(tmp_path: Path, centre: SigningCentre) -> None:
    assert "no key is trusted" in examined(settings(tmp_path, signed_jobs="required")).detail
    named = settings(tmp_path, signing_key=fingerprint(centre.keys[0]))
    PinnedKeys(tmp_path, named)
    assert (examined(named).status, "was not offered" in examined(named).detail) == (Status.FAILED, True)
    assert "until the relay offers" in trust_line(named)
    (tmp_path / FILE).write_text("{")
    assert FILE in examined(settings(tmp_path)).detail
    off = examined(settings(tmp_path, signed_jobs="off"))
    assert (off.status, off.check) == (Status.WARNING, "settings.signing")
