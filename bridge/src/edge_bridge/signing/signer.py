"""Signs jobs, with the keys of a file or with those of a hook."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import cast

from edge_bridge.settings import SECTION, SettingsError
from edge_bridge.signing.changing_file import ChangingFile
from edge_bridge.signing.settings import SigningSettings
from edge_schemas.signing.payload import JOB_CONTEXT, payload_of, with_signed
from edge_schemas.wire.jobs import MAX_SIGNATURES, Job
from edge_service.signing.ed25519 import KeyUnusable, SigningFailed, SigningKey, sign
from edge_service.signing.key_files import read_keys

HOOK_S = 10.0

Sign = Callable[[Job], Awaitable[Job]]
"""See `JobSigner.sign`."""


class JobSigner:
    """Signs the jobs of an executor.

    Args:
        settings: Name a file with keys, or a hook.
    """

    def __init__(self, settings: SigningSettings) -> None:
        self._file = None if settings.key_file is None else ChangingFile(settings.key_file, read_keys)
        self._hook = hook_keys(settings.hook) if settings.hook else ()

    async def sign(self, job: Job) -> Job:
        """The job as it is stored, see `with_signed`; one that is signed already stays as it is.

        Raises:
            SigningFailed: Try again later.
        """
        if job.signed is not None:
            return job
        payload = payload_of(job)
        if self._file is None:
            # A key that is elsewhere may wait for its network.
            try:
                async with asyncio.timeout(HOOK_S):
                    return with_signed(job, await asyncio.to_thread(sign, payload, JOB_CONTEXT, self._hook))
            except TimeoutError:
                raise SigningFailed(f"[{SECTION}] signing_hook has not signed within {HOOK_S:g} s") from None
        try:
            keys = await self._file.get()
        except KeyUnusable as error:
            raise SigningFailed(f"[{SECTION}] signing_key_file: {error}") from None
        return with_signed(job, sign(payload, JOB_CONTEXT, keys))


def signer_of(settings: SigningSettings) -> Sign:
    """What signs the jobs of an executor; without keys jobs stay as they are.

    Raises:
        SettingsError: The keys can't be used. A scheduler that can't sign should not start.
    """
    if not settings.signs:
        return unsigned
    current_keys(settings)
    return JobSigner(settings).sign


async def unsigned(job: Job) -> Job:
    """The job as it is."""
    return job


def current_keys(settings: SigningSettings) -> Sequence[SigningKey]:
    """The keys that sign now, the current one first.

    Raises:
        SettingsError: They can't be used, or there are none.
    """
    if settings.hook:
        return hook_keys(settings.hook)
    if settings.key_file is None:
        raise SettingsError(f"no signing key is configured: see [{SECTION}] signing_key_file and signing_hook")
    try:
        return read_keys(settings.key_file)
    except KeyUnusable as error:
        raise SettingsError(f"[{SECTION}] signing_key_file: {error}") from None


def hook_keys(path: str) -> tuple[SigningKey, ...]:
    """The keys that a hook returns.

    Raises:
        SettingsError: It can't be imported or called, or does not return keys.
    """
    module, _, name = path.rpartition(".")
    try:
        hook = cast("Callable[[], Sequence[SigningKey]]", getattr(import_module(module), name))
        keys = tuple(hook())
        usable = 1 <= len(keys) <= MAX_SIGNATURES and all(len(key.public_key) == 32 for key in keys)
    except Exception as error:
        raise SettingsError(
            f"[{SECTION}] signing_hook {path} can't be used: {type(error).__name__}: {error}"
        ) from error
    if not usable:
        raise SettingsError(f"[{SECTION}] signing_hook {path} must return 1 to {MAX_SIGNATURES} keys of 32 bytes")
    return keys
