"""The keys of `edge_access`.

They are `access.<hash>`, `enroll.<hash>`, `worker.<hash>`, `name.<worker>` and `session.<owner>.<session>`.

`name.<worker>` reserves a worker's name. A name is made from the hash that the worker chose: without the reservation a
client with an enrolment token could search for a secret whose name is another worker's. Under `worker.<hash>` of a
secret that came from a rotation there is an alias only, a `SecretAlias`.
"""

from edge_schemas.admin.access import AccessTokenEntry
from edge_schemas.wire.workers import EnrollTokenEntry, WorkerAccess

ACCESS_PREFIX = "access."
ENROLL_PREFIX = "enroll."
WORKER_PREFIX = "worker."
NAME_PREFIX = "name."
SESSION_PREFIX = "session."
"""Of sessions that were ended; see `EndedSessions`."""


def dump(entry: AccessTokenEntry | EnrollTokenEntry | WorkerAccess) -> bytes:
    """The stored form of an entry."""
    return entry.model_dump_json(exclude_none=True).encode()
