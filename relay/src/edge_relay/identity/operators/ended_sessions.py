"""Sessions of browsers that were ended by signing out, in memory. `Credentials` keeps them up to date.

An entry of `edge_access`, under `session.<owner>.<session>`, lives as long as the session's cookie would have. So all
replicas refuse the cookie, also those that start later, and nothing is stored of sessions that are open.
"""

from collections import defaultdict
from datetime import datetime, timedelta

from edge_broker.bucket import Bucket
from edge_relay.identity.access_keys import SESSION_PREFIX
from edge_relay.identity.lookups import Lookups
from edge_relay.limits.kinds import Limit, OnLimit
from edge_schemas.wire.errors import EdgeError, ErrorCode

MAX_OF_OWNER = 1_000
"""So many ended sessions are kept for a token or a person: the store is bounded by the number of these."""
RETRY_S = 60.0
_CLOCKS_DIFFER = timedelta(minutes=1)


class EndedSessions:
    """Which sessions were ended.

    Args:
        bucket: The bucket.
        lookups: Reads entries while not all are in memory.
        on_limit: Counts refusals.
    """

    def __init__(self, bucket: Bucket, lookups: Lookups, on_limit: OnLimit) -> None:
        self._bucket = bucket
        self._lookups = lookups
        self._on_limit = on_limit
        self._ends: defaultdict[str, dict[str, datetime]] = defaultdict(dict)

    async def end(self, session: str, expires_at: datetime, *, now: datetime) -> None:
        """End a session, for good. A repeat changes nothing.

        Args:
            session: Its owner and its id, separated by a dot.
            expires_at: When it would have ended by itself.
            now: The time.

        Raises:
            EdgeError: `rate_limited`: too many of this owner were ended.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        owner, _, _ = session.partition(".")
        self._forget_old(owner, now)
        if len(self._ends[owner]) >= MAX_OF_OWNER:
            self._on_limit(Limit.ENDED_SESSIONS)
            text = f"{MAX_OF_OWNER} sessions of this token or person were ended: close the browser instead"
            raise EdgeError(ErrorCode.RATE_LIMITED, text, retry_after_s=RETRY_S)
        value = expires_at.isoformat().encode()
        await self._bucket.put(SESSION_PREFIX + session, value, life=expires_at - now + _CLOCKS_DIFFER)
        self.store(session, value)

    async def is_ended(self, session: str, address: str, *, is_complete: bool) -> bool:
        """Whether a session was ended.

        Args:
            session: As for `end`.
            address: Where the call came from; limits look-ups.
            is_complete: Whether all entries are in memory; if not, the entry is read.

        Raises:
            EdgeError: `rate_limited`.
            BrokerUnavailable: The entry can't be read.
        """
        owner, _, name = session.partition(".")
        if name in self._ends.get(owner, ()):
            return True
        return not is_complete and await self._lookups.read(SESSION_PREFIX + session, address) is not None

    def store(self, session: str, value: bytes | None) -> None:
        """Store an entry in memory. The end of its life changes nothing: the cookie has expired."""
        if value is not None:
            owner, _, name = session.partition(".")
            self._ends[owner][name] = datetime.fromisoformat(value.decode())

    def _forget_old(self, owner: str, now: datetime) -> None:
        self._ends[owner] = {name: end for name, end in self._ends[owner].items() if end > now}
