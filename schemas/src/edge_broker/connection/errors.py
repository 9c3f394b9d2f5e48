"""How a call of NATS or JetStream fails: no broker, or an error of the server with its code."""

from collections.abc import Mapping

from edge_schemas.wire.errors import EdgeError, ErrorCode

NO_RESPONDERS = "503"
"""The status of the server's reply to a request that nothing listens to."""
CONSUMER_NOT_FOUND = 10014
NO_MESSAGE = 10037
STREAM_NOT_FOUND = 10059
WRONG_LAST_SEQUENCE = 10071
_STREAM_FULL = 10077
_PER_SUBJECT = "per subject"
"""In the description of a 10077: the stream has room, but its limit of messages on this subject is reached."""
_SERVICE_UNAVAILABLE = 503
_TEMPORARY = frozenset({10008, 10023, 10039, 10076, 10118})
"""System temporarily unavailable, disk full, JetStream not available / not enabled for a moment, and no quorum."""


class BrokerUnavailable(EdgeError):
    """No connection, no answer in time, or no leader. The outcome of a write is unknown: repeat it or read again."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.BROKER_UNAVAILABLE, detail, retry_after_s=1.0)


class JetStreamError(Exception):
    """The server rejected a JetStream call.

    Args:
        code: The server's `err_code`, stable between releases.
        description: The server's text.
    """

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code
        self.description = description


class StreamFull(JetStreamError):
    """A limit of the stream is reached; nothing was stored."""


class SubjectOccupied(StreamFull):
    """The stream already holds the one message that it may hold on this subject; nothing was stored."""


class PayloadTooLarge(EdgeError):
    """The message would exceed the server's `max_payload`; it was not sent."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(ErrorCode.PAYLOAD_TOO_LARGE, f"{size} bytes do not fit into a message of at most {limit}")


def check_error(error: Mapping[str, object] | None) -> None:
    """Check the `error` of an answer of JetStream; there is none if the call succeeded.

    Raises:
        JetStreamError: The server rejected the call.
        BrokerUnavailable: It could not serve the call at the moment.
    """
    if not error:
        return
    code, description = int(str(error.get("err_code", 0))), str(error.get("description", ""))
    if error.get("code") == _SERVICE_UNAVAILABLE and code in _TEMPORARY:
        raise BrokerUnavailable(f"JetStream: {description}")
    if code == _STREAM_FULL:
        raise (SubjectOccupied if _PER_SUBJECT in description else StreamFull)(code, description)
    raise JetStreamError(code, description)
