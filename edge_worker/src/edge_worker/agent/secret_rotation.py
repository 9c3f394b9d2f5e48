"""Rotates the worker's secret when the centre asks for it.

The order makes each crash harmless. The next secret is on disk before the relay learns its hash, so a repetition
registers the same one. It becomes the secret on disk before it is first used, and the relay accepts the older one until
then: whatever secret the disk shows is valid.
"""

import asyncio

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.workers import SecretKind, SecretRequest, hash_secret, new_secret
from edge_worker.log import EventLog
from edge_worker.relay.call_result import Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import until_final
from edge_worker.state.kept_identity import KeptIdentity

RETRY_S = 60.0
"""After the disk could not be written, or the relay did not know the call."""

log = EventLog("edge_worker.agent.secret_rotation")


class SecretRotation:
    """Waits for rotations, and makes them."""

    def __init__(self, identity: KeptIdentity, client: RelayClient, link: Link, *, retry_s: float = RETRY_S) -> None:
        self._identity = identity
        self._client = client
        self._link = link
        self._retry_s = retry_s
        self._wake = asyncio.Event()
        self._refused = 0

    def check(self) -> None:
        """The settings may ask for a rotation."""
        if self._wanted() is not None:
            self._wake.set()

    async def run(self) -> None:
        """Rotates until cancelled."""
        self.check()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (rotation := self._wanted()) is not None:
                try:
                    await self._rotate(rotation)
                except OSError as error:
                    log.warning("secret_not_on_disk", rotation=rotation, error=str(error))
                    await asyncio.sleep(self._retry_s)

    def _wanted(self) -> int | None:
        """The rotation that is to be made; one that the relay has refused is not repeated."""
        identity = self._identity.current
        wanted = identity.enrollment.settings.rotation
        return wanted if wanted > max(identity.rotation, self._refused) else None

    async def _rotate(self, rotation: int) -> None:
        identity = self._identity.current
        if identity.next_secret is None or identity.next_rotation != rotation:
            self._identity.prepare_secret(new_secret(SecretKind.WORKER), rotation)
        request = SecretRequest(secret_hash=hash_secret(self._identity.current.next_secret or ""), rotation=rotation)
        try:
            await until_final(lambda: self._client.register_secret(request), pause=self._link.pause)
        except Refused as error:
            log.warning("secret_not_rotated", rotation=rotation, code=error.code, reason=str(error))
            if error.code == ErrorCode.NOT_FOUND:
                # A replica of an older version; the next call may reach another one.
                await asyncio.sleep(self._retry_s)
            else:
                self._refused = rotation
            return
        self._client.use_secret(self._identity.switch_secret())
        try:
            # The first use, at once: a poll may be held for most of a minute, and the older secret is valid until then.
            await until_final(self._client.facts, pause=self._link.pause)
        except Refused as error:
            log.warning("secret_not_used", rotation=rotation, code=error.code, reason=str(error))
            return
        log.info("secret_rotated", rotation=rotation)
