"""The keys that this worker trusts: from its owner, or the first that the relay offered. Kept in the state folder.

Once keys are pinned, only a newer key set that a pinned key has signed replaces them, whatever relay or proxy offers.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from edge_schemas.signing.key_sets import (
    Trust,
    by_fingerprint,
    by_id,
    decoded_key,
    encoded_key,
    fingerprint,
    follow,
    on_first_use,
)
from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.jobs import Signed
from edge_service.signing.ed25519 import KeyUnusable, is_signed_by, read_public_keys
from edge_worker.files import write_atomically
from edge_worker.log import EventLog
from edge_worker.settings import Settings, SettingsError

FILE = "signing_keys.json"
FIRST_USE = "first use"
_NAMED = "fingerprint "

log = EventLog("edge_worker.signing.pinned_keys")


class Pins(Outbound):
    """What is kept on disk.

    Attributes:
        origin: Where the trust began: `first use`, or what the owner has set, see `origin_of`. If the owner sets
            something else, it begins again.
        keys: In base64, the current one first; empty while the key that the owner has named was not offered.
        serial: Of the key set that they are from; 0 if they are from the owner's file.
        since: When they were pinned.
    """

    origin: str
    keys: tuple[str, ...] = ()
    serial: int = 0
    since: Instant

    @property
    def trust(self) -> Trust:
        """The keys themselves."""
        return Trust(tuple(map(decoded_key, self.keys)), self.serial)


class PinnedKeys:
    """The trusted keys of one worker.

    Args:
        state_dir: Where they are kept.
        settings: What the owner has set.
    """

    def __init__(self, state_dir: Path, settings: Settings) -> None:
        self._path = state_dir / FILE
        self._settings = settings
        self._pins = None if settings.signed_jobs == "off" else self._read()
        self._keys = {} if self._pins is None else by_id(self._pins.trust.keys)

    @property
    def pins(self) -> Pins | None:
        """What is pinned; None if nothing is."""
        return self._pins

    @property
    def keys(self) -> dict[str, bytes]:
        """The trusted keys by their ids."""
        return self._keys

    @property
    def is_required(self) -> bool:
        """Whether a job of Airflow must be signed."""
        return self._settings.signed_jobs == "required" or self._pins is not None

    def offer(self, sets: Sequence[Signed]) -> bool:
        """The relay offers the centre's key sets; returns whether the trusted keys have changed.

        Raises:
            OSError: They have changed, and are not on disk: they count, but after a restart the older ones do.
        """
        trust = self._trust_after(sets)
        if trust is None or (self._pins is not None and trust == self._pins.trust):
            return False
        origin = FIRST_USE if self._pins is None else self._pins.origin
        self._adopt(
            Pins(
                origin=origin,
                keys=tuple(map(encoded_key, trust.keys)),
                serial=trust.serial,
                since=datetime.now(UTC),
            )
        )
        keys = [fingerprint(key) for key in trust.keys]
        log.info("signing_keys_pinned", serial=trust.serial, origin=origin, keys=keys)
        write_atomically(self._path, self._pins_json())
        return True

    def _trust_after(self, sets: Sequence[Signed]) -> Trust | None:
        if not sets or self._settings.signed_jobs == "off":
            return None
        if self._pins is None:
            # An owner who requires signatures also says which: a relay must not choose.
            return None if self._settings.signed_jobs == "required" else on_first_use(sets, is_signed_by)
        if not self._pins.keys:
            return by_fingerprint(self._pins.origin.removeprefix(_NAMED), sets, is_signed_by)
        trust, refused = follow(self._pins.trust, sets, is_signed_by)
        if refused:
            log.error(
                "signing_keys_refused",
                sets=refused,
                pinned=[fingerprint(key) for key in self._pins.trust.keys],
                means="a newer key set is signed by no key that this worker trusts",
            )
        return trust

    def _adopt(self, pins: Pins) -> None:
        self._pins = pins
        self._keys = by_id(pins.trust.keys)

    def _pins_json(self) -> bytes:
        assert self._pins is not None  # noqa: S101  # set by the callers
        return self._pins.model_dump_json().encode()

    def _read(self) -> Pins | None:
        """What is on disk, unless the owner has set something else since."""
        origin, keys = owners_keys(self._settings)
        pins = read_pins(self._path.parent)
        if origin is None or (pins is not None and pins.origin == origin):
            return pins
        begun = Pins(origin=origin, keys=tuple(map(encoded_key, keys)), since=datetime.now(UTC))
        write_atomically(self._path, begun.model_dump_json().encode())
        return begun


def read_pins(state_dir: Path) -> Pins | None:
    """What is on disk; None if nothing was pinned.

    Raises:
        SettingsError: It can't be read: then the worker does not know whom to trust.
    """
    path = state_dir / FILE
    try:
        pins = Pins.model_validate_json(path.read_bytes())
        _ = pins.trust
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = str(error) if isinstance(error, OSError) else "it is damaged"
        msg = f"the trusted signing keys in {path} can't be read: {why}"
        raise SettingsError(msg) from None
    return pins


def owners_keys(settings: Settings) -> tuple[str | None, tuple[bytes, ...]]:
    """What names the owner's setting, and the keys that it gives; (None, ()) if there is none.

    Raises:
        SettingsError: The file can't be used.
    """
    if settings.signing_keys is not None:
        try:
            keys = read_public_keys(settings.signing_keys.read_bytes())
        except (OSError, KeyUnusable) as error:
            msg = f"signing_keys {settings.signing_keys}: {error}"
            raise SettingsError(msg) from None
        digest = hashlib.sha256(b"".join(keys)).hexdigest()
        return f"file {digest}", keys
    if settings.signing_key is not None:
        return f"{_NAMED}{settings.signing_key}", ()
    return None, ()


def begin_trust(state_dir: Path, settings: Settings, sets: Sequence[Signed]) -> None:
    """The machine was enrolled: what an earlier enrolment trusted counts no longer."""
    (state_dir / FILE).unlink(missing_ok=True)
    PinnedKeys(state_dir, settings).offer(sets)


def trust_line(settings: Settings) -> str:
    """For the person who has enrolled the machine: whose jobs it runs.

    Raises:
        SettingsError: What is on disk can't be read.
    """
    pins = None if settings.signed_jobs == "off" else read_pins(settings.state_dir)
    if pins is None:
        return "Signatures of jobs are not checked."
    if not pins.keys:
        return "Runs no Airflow job until the relay offers the key that signing_key names."
    keys = ", ".join(f"SHA256:{fingerprint(key)}" for key in pins.trust.keys)
    first = ". Compare: airflow edge-relay signing-keys show" if pins.origin == FIRST_USE else ""
    return f"Runs Airflow jobs signed by {keys}{first}"
