"""Which keys sign: those of a file, read again when it changes, or those of a hook."""

import asyncio
import threading
from pathlib import Path

import pytest

from edge_bridge.settings import SettingsError
from edge_bridge.signing.changing_file import ChangingFile
from edge_bridge.signing.settings import SigningSettings, signing_settings
from edge_bridge.signing.signer import JobSigner, current_keys, signer_of, unsigned
from edge_schemas.signing.key_sets import by_id
from edge_schemas.signing.payload import JOB_CONTEXT
from edge_service.signing.ed25519 import LocalKey, SigningFailed, is_signed_by, new_key_pem, read_private_keys
from support.airflow.sdk_jobs import sdk_job
from support.signing.conf import Conf
from support.signing.keys import signing_centre

KEYS: list[LocalKey] = [*read_private_keys(new_key_pem()), *read_private_keys(new_key_pem())]
THREADS: list[str] = []


class FarKey:
    """A key of another machine."""

    public_key = KEYS[0].public_key

    def sign(self, data: bytes) -> bytes:
        THREADS.append(threading.current_thread().name)
        return KEYS[0].sign(data)


def two_keys() -> list[FarKey | LocalKey]:
    return [FarKey(), KEYS[1]]


def no_keys() -> list[LocalKey]:
    return []


class FailingKey:
    """A key whose keeper is down."""

    public_key = bytes(32)

    def sign(self, _data: bytes) -> bytes:
        raise TimeoutError("the vault does not answer")


def failing() -> list[FailingKey]:
    return [FailingKey()]


async def test_a_hook_signs_in_a_thread() -> None:
    job = await signer_of(SigningSettings(hook=f"{__name__}.two_keys", keys_file=Path("unused")))(sdk_job("t"))
    assert job.signed is not None
    for key in KEYS:
        assert is_signed_by(job.signed, JOB_CONTEXT, by_id([key.public_key]))
    assert THREADS
    assert threading.main_thread().name not in THREADS


async def test_a_key_that_fails_now_is_no_reason_to_refuse_a_job() -> None:
    signer = JobSigner(SigningSettings(hook=f"{__name__}.failing"))
    with pytest.raises(SigningFailed, match="the vault does not answer"):
        await signer.sign(sdk_job("t"))


@pytest.mark.parametrize("hook", ["nowhere.at_all", "json", f"{__name__}.no_keys", f"{__name__}.KEYS"])
def test_a_hook_that_cannot_be_used_is_named_at_the_start(hook: str) -> None:
    with pytest.raises(SettingsError, match="signing_hook"):
        signer_of(SigningSettings(hook=hook, keys_file=Path("unused")))


def test_a_file_without_keys_is_named_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    path.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    with pytest.raises(SettingsError, match="signing_key_file") as error:
        signer_of(SigningSettings(key_file=path))
    assert "c2VjcmV0" not in str(error.value)
    assert signer_of(SigningSettings()) is unsigned
    with pytest.raises(SettingsError, match="no signing key"):
        current_keys(SigningSettings())


def test_keys_are_found_in_the_folder_of_secrets(tmp_path: Path) -> None:
    assert signing_settings(Conf(secrets_dir=str(tmp_path))) == SigningSettings()
    centre = signing_centre(tmp_path)
    assert signing_settings(Conf(secrets_dir=str(tmp_path))) == centre.settings
    centre.key_file.unlink()
    of_keeper = signing_settings(Conf(secrets_dir=str(tmp_path)))
    assert (of_keeper.key_file, of_keeper.keys_file, of_keeper.signs) == (None, centre.keys_file, False)
    named = signing_settings(Conf(signing_key_file="/a/signing.pem", signed_jobs="optional"))
    assert named == SigningSettings(Path("/a/signing.pem"), Path("/a/signing-keys.json"), is_required=False)
    for wrong in (Conf(signed_jobs="sometimes"), Conf(signing_hook="a.b")):
        with pytest.raises(SettingsError):
            signing_settings(wrong)


async def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_bridge.signing.changing_file.CHECK_EVERY_S", 0)
    path, reads = tmp_path / "file", []

    def read(path: Path) -> str:
        reads.append(path)
        return path.read_text()

    held = ChangingFile(path, read)
    with pytest.raises(FileNotFoundError):
        await held.get()
    await asyncio.to_thread(path.write_text, "one")
    assert [await held.get(), await held.get()] == ["one", "one"]
    (await asyncio.to_thread(_other, tmp_path)).replace(path)
    assert await held.get() == "two"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        await held.get()
    assert len(reads) == 4, "twice it was not there"


def _other(folder: Path) -> Path:
    path = folder / "other"
    path.write_text("two")
    return path
