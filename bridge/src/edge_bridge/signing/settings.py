"""Which keys sign jobs, and whether jobs must be signed."""

from dataclasses import dataclass
from pathlib import Path

from edge_bridge.settings import SECTION, Conf, SettingsError, text
from edge_service.signing.key_files import KEY_FILE, KEYS_FILE

REQUIRED, OPTIONAL = "required", "optional"


@dataclass(frozen=True, slots=True)
class SigningSettings:
    """Of all teams.

    Attributes:
        key_file: The private keys; None where there are none, as on a keeper's machine, or with a hook.
        keys_file: The key sets; None if jobs are not signed.
        hook: The import path of a function that returns the keys instead of `key_file`; may be empty.
        is_required: Jobs without a valid signature get no calls and are not republished, and workers know the keys.
    """

    key_file: Path | None = None
    keys_file: Path | None = None
    hook: str = ""
    is_required: bool = True

    @property
    def signs(self) -> bool:
        """Whether this machine can sign."""
        return self.key_file is not None or bool(self.hook)


def signing_settings(conf: Conf) -> SigningSettings:
    """The settings. Without a key, and without key sets, jobs are not signed and nothing is checked.

    Raises:
        SettingsError: `signed_jobs` is wrong, or there are keys but no place for their key sets.
    """
    if (mode := text(conf, "signed_jobs") or REQUIRED) not in {REQUIRED, OPTIONAL}:
        raise SettingsError(f"[{SECTION}] signed_jobs is {mode!r}, must be {REQUIRED} or {OPTIONAL}")
    hook = text(conf, "signing_hook")
    key_file = None if hook else _named_or_found(conf, "signing_key_file", KEY_FILE)
    keys_file = _named_or_found(conf, "signing_keys_file", KEYS_FILE)
    if keys_file is None and key_file is not None:
        keys_file = key_file.with_name(KEYS_FILE)
    if keys_file is None and hook:
        raise SettingsError(f"[{SECTION}] signing_hook needs signing_keys_file, or secrets_dir with {KEYS_FILE}")
    return SigningSettings(key_file, keys_file, hook, mode == REQUIRED)


def _named_or_found(conf: Conf, option: str, file: str) -> Path | None:
    """The file that an option names, or else the file of this name in `secrets_dir`, if it is there."""
    if named := text(conf, option):
        return Path(named)
    folder = text(conf, "secrets_dir")
    found = Path(folder) / file if folder else None
    return found if found is not None and found.exists() else None
