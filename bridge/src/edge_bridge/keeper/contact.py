"""How long workers have been silent, by a clock that stands still while we could not have heard them.

Pure: time comes in. Contact is the arrival of a poll, which the relay writes into the worker's entry.
"""


class ContactClock:
    """Silence of workers, in monotonic seconds.

    While NATS is away nobody can be heard, so nobody is judged: silence stands still, and counts from zero again when
    the connection is back.
    """

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}
        self._connected_since: float | None = None
        self._lost_at = 0.0

    def tick(self, now: float, *, connected: bool) -> None:
        """Say once a second or so whether NATS can be heard."""
        if connected and self._connected_since is None:
            # Whoever was heard before the outage may have called during it: all begin anew.
            self._heard = {worker: max(heard, now) for worker, heard in self._heard.items()}
            self._connected_since = now
        elif not connected and self._connected_since is not None:
            self._connected_since = None
            self._lost_at = now

    def heard(self, worker: str, now: float, *, age_s: float = 0.0) -> None:
        """A poll of this worker arrived, `age_s` ago."""
        self._heard[worker] = max(now - max(age_s, 0.0), self._heard.get(worker, float("-inf")))

    def forget(self, worker: str) -> None:
        """The worker's entry is gone."""
        self._heard.pop(worker, None)

    def silent_for(self, worker: str, now: float) -> float:
        """Seconds of silence that count; those of a worker never heard of count from the connection."""
        until = now if self._connected_since is not None else self._lost_at
        since = self._heard.get(worker)
        if since is None:
            since = self._connected_since if self._connected_since is not None else self._lost_at
        return max(0.0, until - since)
