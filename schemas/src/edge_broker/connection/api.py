"""The JetStream API as its callers see it: a call by name, an answer in JSON."""

from collections.abc import Mapping
from typing import Any, Protocol

ApiAnswer = dict[str, Any]
"""The server's JSON, which may hold more than is used. `edge_broker.jetstream` has typed answers."""


class JetStreamApi(Protocol):
    """A connection that can call the API: a broker, or a doctor's probe."""

    async def api(self, call: str, body: Mapping[str, object] | None = None) -> ApiAnswer:
        """Call the API, for example `STREAM.INFO.EDGE_JOBS`.

        Raises:
            JetStreamError: The server rejected the call.
        """
