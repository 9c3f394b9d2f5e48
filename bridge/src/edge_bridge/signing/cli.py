"""`airflow edge-relay signing-keys`: creates, shows, rotates and announces the keys that sign jobs."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from airflow.configuration import conf

from edge_bridge.settings import SECTION, SettingsError, broker_settings, text
from edge_bridge.signing.settings import SigningSettings, signing_settings
from edge_bridge.signing.signer import current_keys
from edge_bridge.signing.unfinished import Unanswered, not_signed_by
from edge_broker.permissions import EXECUTOR
from edge_schemas.signing.key_sets import fingerprint, key_id
from edge_service.signing import key_files
from edge_service.signing.ed25519 import KeyUnusable, SigningFailed, public_pem

_NAMED_AT_MOST = 5


def run(args: argparse.Namespace) -> None:
    """Run one of the commands. Exits with 1 and the reason if it can't be done."""
    try:
        _COMMANDS[args.subcommand](args)
    except (SettingsError, KeyUnusable, SigningFailed, Unanswered, OSError) as error:
        sys.exit(f"airflow edge-relay signing-keys: {error}")


def _generate(_args: argparse.Namespace) -> None:
    named, folder = text(conf, "signing_key_file"), text(conf, "secrets_dir")
    if not named and not folder:
        raise SettingsError(f"set [{SECTION}] signing_key_file, or secrets_dir for {key_files.KEY_FILE}")
    key_file = Path(named) if named else Path(folder) / key_files.KEY_FILE
    if key_file.exists():
        raise SettingsError(f"{key_file} exists: use rotate")
    keys_file = text(conf, "signing_keys_file")
    key_files.create(key_file, Path(keys_file) if keys_file else key_file.with_name(key_files.KEYS_FILE), _now())
    print(f"Created {key_file}. Jobs are signed once the schedulers were restarted.")
    _show_keys(signing_settings(conf))


def _rotate(_args: argparse.Namespace) -> None:
    settings = signing_settings(conf)
    key_files.rotate(_key_file(settings), _keys_file(settings), _now())
    print("The first key is the current one from now on; the others sign as well until `retire`.")
    _show_keys(settings)


def _retire(args: argparse.Namespace) -> None:
    settings = signing_settings(conf)
    current, *older = (key.public_key for key in current_keys(settings))
    if older and not args.force:
        jobs = asyncio.run(not_signed_by(key_id(current), broker_settings(conf, EXECUTOR)))
        if jobs:
            named = ", ".join(jobs[:_NAMED_AT_MOST])
            raise SettingsError(
                f"{len(jobs)} unfinished jobs are not signed by the current key and would be refused ({named}, ...): "
                "wait until they have ended, or use --force"
            )
    key_files.retire(_key_file(settings), _keys_file(settings), _now())
    _show_keys(settings)


def _announce(_args: argparse.Namespace) -> None:
    settings = signing_settings(conf)
    key_files.announce(current_keys(settings), _keys_file(settings), _now())
    _show_keys(settings)


def _show(args: argparse.Namespace) -> None:
    settings = signing_settings(conf)
    if args.pem:
        keys = key_files.set_of(key_files.read_sets(_keys_file(settings))[-1]).public_keys
        print(b"".join(map(public_pem, keys)).decode(), end="")
    else:
        _show_keys(settings)


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "generate": _generate,
    "rotate": _rotate,
    "retire": _retire,
    "announce": _announce,
    "show": _show,
}


def _show_keys(settings: SigningSettings) -> None:
    newest = key_files.set_of(key_files.read_sets(_keys_file(settings))[-1])
    print(f"Key set {newest.serial}, made {newest.made_at:%F %H:%M} UTC, the current key first:")
    for key in newest.public_keys:
        print(f"  SHA256:{fingerprint(key)}")


def _key_file(settings: SigningSettings) -> Path:
    if settings.key_file is None:
        raise SettingsError(
            "there is no file with signing keys; with signing_hook, change what it returns and announce"
        )
    return settings.key_file


def _keys_file(settings: SigningSettings) -> Path:
    if settings.keys_file is None:
        raise SettingsError("there are no signing keys: use generate")
    return settings.keys_file


def _now() -> datetime:
    return datetime.now(UTC)
