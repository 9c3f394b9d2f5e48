"""The names of workers: each is reserved for the hash of one secret, in `edge_access`."""

import base64
from contextlib import suppress
from datetime import timedelta

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.access_keys import NAME_PREFIX, WORKER_PREFIX
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import WorkerAccess

MAX_LABEL_CHARS = 63
SHORTEST_SUFFIX = 6
FREED_FOR = timedelta(days=1)
"""How long the mark of a name that was freed is kept."""


class WorkerNames:
    """Reserves names. Reads go through the stream leader, writes are compare-and-swap."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, ACCESS_BUCKET)

    async def secret_hash(self, worker: str) -> str | None:
        """The hash of the secret for which a worker's name is reserved."""
        stored = await self._bucket.get(NAME_PREFIX + worker)
        return None if stored.value is None else stored.value.decode()

    async def find_free(self, site: str, secret_hash: str) -> str:
        """The shortest name for this secret that no other secret has."""
        for name in candidate_names(site, secret_hash):
            if await self.secret_hash(name) in {None, secret_hash}:
                return name
        raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "no name is free for this secret; enrol with a new secret")

    async def reserve(self, name: str, secret_hash: str) -> bool:
        """Whether the name belongs to this secret, now or from earlier."""
        stored = await self._bucket.get(NAME_PREFIX + name)
        if stored.value is not None:
            return stored.value.decode() == secret_hash
        try:
            await self._bucket.put(NAME_PREFIX + name, secret_hash.encode(), revision=stored.revision)
        except RevisionConflict:
            return await self.secret_hash(name) == secret_hash
        return True

    async def free(self, name: str, secret_hash: str) -> None:
        """Give up a reserved name, unless a worker has it that was not removed."""
        stored = await self._bucket.get(NAME_PREFIX + name)
        if stored.value is None or stored.value.decode() != secret_hash:
            return
        known = await self._bucket.get(WORKER_PREFIX + secret_hash)
        access = None if known.value is None else WorkerAccess.model_validate_json(known.value)
        if access is not None and access.worker == name and access.removed_at is None:
            return
        with suppress(RevisionConflict):
            await self._bucket.delete(NAME_PREFIX + name, revision=stored.revision, mark_life=FREED_FOR)


def candidate_names(site: str, secret_hash: str) -> list[str]:
    """Names for a worker, the shortest first: its site and some characters of its secret's hash; DNS labels."""
    digest = base64.b32encode(bytes.fromhex(secret_hash)).decode().rstrip("=").lower()
    lengths = range(SHORTEST_SUFFIX, len(digest) + 1, 6)
    return [f"{site[: MAX_LABEL_CHARS - 1 - n].rstrip('-')}-{digest[:n]}" for n in lengths]
