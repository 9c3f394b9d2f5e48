"""The files of a centre's keys: what they hold, who may read them, and what their errors keep secret."""

import base64
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_schemas.signing.key_sets import MAX_SETS, Trust, follow
from edge_schemas.wire.jobs import MAX_SIGNATURES
from edge_service.signing.ed25519 import (
    KeyUnusable,
    SigningFailed,
    is_signed_by,
    new_key_pem,
    public_pem,
    read_private_keys,
    read_public_keys,
    sign,
)
from edge_service.signing.key_files import create, read_keys, read_sets, retire, rotate, set_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    files = tmp_path / "signing.pem", tmp_path / "signing-keys.json"
    create(*files, NOW)
    return files


def test_the_first_key_is_private_and_its_set_is_not(files: tuple[Path, Path]) -> None:
    key_file, keys_file = files
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o644]
    before = key_file.read_bytes()
    create(*files, NOW)
    assert key_file.read_bytes() == before, "what is there stays"
    [key], [only] = read_keys(key_file), read_sets(keys_file)
    assert (set_of(only).serial, set_of(only).public_keys) == (1, (key.public_key,))
    secret = base64.b64encode(base64.b64decode(before.splitlines()[1])[-32:])
    assert secret not in keys_file.read_bytes()


def test_rotation_and_retirement_make_a_chain_that_any_worker_follows(files: tuple[Path, Path]) -> None:
    key_file, keys_file = files
    first = read_keys(key_file)[0].public_key
    for _ in range(MAX_SETS // 2 - 1):
        rotate(*files, NOW)
        assert len(read_keys(key_file)) == 2
        assert set_of(read_sets(keys_file)[-1]).public_keys == tuple(key.public_key for key in read_keys(key_file))
        retire(*files, NOW)
        assert len(read_keys(key_file)) == 1
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    now = read_keys(key_file)[0].public_key
    assert follow(Trust((first,)), read_sets(keys_file), is_signed_by) == (Trust((now,), MAX_SETS - 1), 0)
    with pytest.raises(KeyUnusable, match="no older key"):
        retire(*files, NOW)


def test_sets_and_keys_are_limited(files: tuple[Path, Path]) -> None:
    for _ in range(MAX_SIGNATURES - 1):
        rotate(*files, NOW)
    with pytest.raises(KeyUnusable, match="more than 8 keys"):
        rotate(*files, NOW)
    for _ in range(MAX_SETS):
        retire(*files, NOW)
        rotate(*files, NOW)
    assert len(read_sets(files[1])) == MAX_SETS


def test_a_set_that_was_altered_is_not_used(files: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pem", tmp_path / "other.json"
    create(*other, NOW)
    own, foreign = (set_of(read_sets(file)[0]).keys[0] for file in (files[1], other[1]))
    files[1].write_text(files[1].read_text().replace(own, foreign))
    with pytest.raises(KeyUnusable, match="none of its own keys has signed"):
        read_sets(files[1])


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"])
def test_errors_quote_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    for read in (read_keys, read_sets):
        with pytest.raises(KeyUnusable) as error:
            read(path)
        assert "c2VjcmV0" not in str(error.value)
    with pytest.raises(KeyUnusable, match="can't be read"):
        read_keys(tmp_path / "missing")
    assert "PRIVATE" not in repr(read_private_keys(new_key_pem()))


def test_public_keys_are_read_as_they_are_printed() -> None:
    keys = [read_private_keys(new_key_pem())[0].public_key for _ in range(2)]
    assert read_public_keys(b"text\n" + b"".join(map(public_pem, keys))) == tuple(keys)
    with pytest.raises(KeyUnusable):
        read_public_keys(new_key_pem())


def test_a_key_that_fails_is_a_reason_to_try_later() -> None:
    class Far:
        public_key = bytes(32)

        def sign(self, data: bytes) -> bytes:
            raise ConnectionError(f"no route for {len(data)} bytes")

    with pytest.raises(SigningFailed, match="ConnectionError: no route for 8 bytes"):
        sign("payload", b"x", [Far()])


@pytest.mark.parametrize("value", ["", "AAAA", "no base64", "!"])
def test_a_signature_that_is_none_is_wrong(value: str) -> None:
    [key] = read_private_keys(new_key_pem())
    signed = sign("payload", b"x", [key])
    odd = signed.model_copy(update={"signatures": (signed.signatures[0].model_copy(update={"value": value}),)})
    keys = {signed.signatures[0].key: key.public_key}
    assert is_signed_by(signed, b"x", keys)
    assert not is_signed_by(odd, b"x", keys)
    assert not is_signed_by(signed, b"y", keys)
