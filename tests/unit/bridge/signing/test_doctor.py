"""What `airflow edge-relay doctor` finds about the keys that sign jobs."""

from pathlib import Path

from edge_bridge.doctor.settings_checks import SettingsDoctor, signing_finding
from edge_service.findings import Finding, Status
from support.signing.conf import Conf
from support.signing.keys import signing_centre


def examined(folder: Path, **options: str) -> Finding:
    return signing_finding(Conf(secrets_dir=str(folder), **options))


def test_without_keys_it_warns(tmp_path: Path) -> None:
    finding = examined(tmp_path)
    assert finding.status is Status.WARNING
    assert "signing-keys generate" in finding.advice


def test_with_keys_it_names_the_current_one(tmp_path: Path) -> None:
    centre = signing_centre(tmp_path)
    assert examined(tmp_path).status is Status.OK
    centre.rotate()
    assert examined(tmp_path).status is Status.OK
    centre.key_file.unlink()
    of_keeper = examined(tmp_path)
    assert (of_keeper.status, of_keeper.detail) == (Status.OK, "jobs are checked here and not signed")


def test_what_would_go_wrong_is_found(tmp_path: Path) -> None:
    centre = signing_centre(tmp_path)
    assert examined(tmp_path, signed_jobs="optional").status is Status.WARNING
    centre.key_file.chmod(0o644)
    assert "others may read" in examined(tmp_path).detail
    centre.key_file.chmod(0o600)
    other = signing_centre(tmp_path / "other")
    named = examined(tmp_path, signing_key_file=str(other.key_file), signing_keys_file=str(centre.keys_file))
    assert (named.status, "announce" in named.advice) == (Status.FAILED, True)
    centre.keys_file.write_text("[]")
    assert "holds no key set" in examined(tmp_path).detail
    assert examined(tmp_path).status is Status.FAILED


def test_the_key_sets_are_no_secret_and_the_key_is_one(tmp_path: Path) -> None:
    centre = signing_centre(tmp_path)

    def modes() -> Finding:
        doctor = SettingsDoctor(Conf(secrets_dir=str(tmp_path), nats_urls="nats://nowhere"))
        [finding] = [one for one in doctor._found if one.check == "settings.modes"]
        return finding

    assert modes().status is Status.OK
    centre.key_file.chmod(0o640)
    assert modes().status is Status.OK
    centre.key_file.chmod(0o644)
    assert str(centre.key_file) in modes().detail
