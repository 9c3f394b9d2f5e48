"""The files of a centre's signing keys: the private keys, and the key sets that workers may know.

    signing.pem         private keys, the current one first; for executors only
    signing-keys.json   the key sets, the newest last; for executors and keepers, no secret

The sets are made by the command that changes the keys, not by a running part: two schedulers can't announce different
sets, whatever files they have at the moment.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edge_schemas.signing.key_sets import KEY_SET_CONTEXT, MAX_SETS, KeySet, by_id, encoded_key, read_set
from edge_schemas.wire.jobs import MAX_SIGNATURES, Signed
from edge_service.private_files import PRIVATE, PUBLIC, write_file
from edge_service.signing.ed25519 import (
    KeyUnusable,
    SigningKey,
    is_signed_by,
    new_key_pem,
    private_blocks,
    read_private_keys,
    sign,
)

KEY_FILE = "signing.pem"
KEYS_FILE = "signing-keys.json"
MAX_FILE_BYTES = 1 << 20

_SETS: TypeAdapter[tuple[Signed, ...]] = TypeAdapter(tuple[Signed, ...])


def read_keys(path: Path) -> tuple[SigningKey, ...]:
    """The private keys of a file; see `read_private_keys`.

    Raises:
        KeyUnusable: The file can't be read, or holds no such keys.
    """
    return read_private_keys(_read(path))


def read_sets(path: Path) -> tuple[Signed, ...]:
    """The key sets of a file, the oldest first; each is checked to be signed by one of its own keys.

    Raises:
        KeyUnusable: The file can't be read, or holds no such sets.
    """
    try:
        sets = _SETS.validate_json(_read(path))
    except ValidationError as error:
        raise KeyUnusable(f"{path} holds no key sets: {error.error_count()} errors") from None
    if not sets:
        raise KeyUnusable(f"{path} holds no key set")
    for one in sets:
        if not is_signed_by(one, KEY_SET_CONTEXT, by_id(set_of(one).public_keys)):
            raise KeyUnusable(f"{path} holds a key set that none of its own keys has signed")
    return sets


def set_of(signed: Signed) -> KeySet:
    """The key set in a payload.

    Raises:
        KeyUnusable: There is none.
    """
    if (found := read_set(signed)) is None:
        raise KeyUnusable("a key set can't be read")
    return found


def extended(
    sets: Sequence[Signed], keys: Sequence[bytes], signers: Sequence[SigningKey], now: datetime
) -> tuple[Signed, ...]:
    """The sets with a new one.

    Args:
        sets: The sets so far.
        keys: The public keys of the new set, the current one first.
        signers: Who signs it: for workers that know the set before, one of that set's keys must be among them.
        now: When it is made.

    Raises:
        SigningFailed: A key could not sign.
    """
    serial = set_of(sets[-1]).serial + 1 if sets else 1
    new = KeySet(serial=serial, keys=tuple(map(encoded_key, keys)), made_at=now)
    return (*sets, sign(new.model_dump_json(), KEY_SET_CONTEXT, signers))[-MAX_SETS:]


def write_sets(path: Path, sets: Sequence[Signed]) -> None:
    """Replace the file of the key sets."""
    write_file(path, json.dumps([one.model_dump() for one in sets], indent=1).encode() + b"\n", mode=PUBLIC)


def create(key_file: Path, keys_file: Path, now: datetime) -> None:
    """Create the first key and its set; what is there stays."""
    if not key_file.exists():
        write_file(key_file, new_key_pem(), mode=PRIVATE)
    if not keys_file.exists():
        announce(read_keys(key_file), keys_file, now)


def announce(keys: Sequence[SigningKey], keys_file: Path, now: datetime) -> None:
    """Write a new set of these keys.

    Raises:
        KeyUnusable: The file of the sets can't be used.
        SigningFailed: A key could not sign.
    """
    sets = read_sets(keys_file) if keys_file.exists() else ()
    write_sets(keys_file, extended(sets, [key.public_key for key in keys], keys, now))


def rotate(key_file: Path, keys_file: Path, now: datetime) -> None:
    """Create a key that is the current one; the others sign as well, for workers that do not know it yet.

    Raises:
        KeyUnusable: A file can't be used, or there are too many keys.
    """
    pem = new_key_pem() + b"".join(block + b"\n" for block in private_blocks(_read(key_file)))
    # The set first: if this stops in between, workers know a key that signs nothing.
    announce(read_private_keys(pem), keys_file, now)
    write_file(key_file, pem, mode=PRIVATE)


def replace_stolen(key_file: Path, keys_file: Path, now: datetime) -> None:
    """Create a key that is the only one from now on. What the others alone have signed is refused.

    `rotate` and `retire` would leave a key set with both: whoever has the stolen key and a relay could offer it to a
    worker that was told to trust the new key, and withhold what came after it.

    Raises:
        KeyUnusable: A file can't be used.
    """
    sets, pem = read_sets(keys_file), new_key_pem()
    older = private_blocks(_read(key_file))[: MAX_SIGNATURES - 1]
    # All keys first, and the new one alone at the end: wherever this stops, what signs is in the newest set.
    write_file(key_file, pem + b"".join(block + b"\n" for block in older), mode=PRIVATE)
    keys = read_keys(key_file)
    # Signed by the older ones as well, for workers that know only those.
    write_sets(keys_file, extended(sets, [keys[0].public_key], keys, now))
    write_file(key_file, pem, mode=PRIVATE)


def retire(key_file: Path, keys_file: Path, now: datetime) -> None:
    """Keep the current key only. What the older ones alone have signed is refused from then on.

    Raises:
        KeyUnusable: A file can't be used, or there is one key only.
    """
    keys = read_keys(key_file)
    if len(keys) == 1:
        raise KeyUnusable(f"{key_file} has no older key")
    # Signed by the older ones as well: a worker may know only those.
    write_sets(keys_file, extended(read_sets(keys_file), [keys[0].public_key], keys, now))
    write_file(key_file, private_blocks(_read(key_file))[0] + b"\n", mode=PRIVATE)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyUnusable(f"{path} can't be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise KeyUnusable(f"{path} has more than {MAX_FILE_BYTES} bytes")
    return data
