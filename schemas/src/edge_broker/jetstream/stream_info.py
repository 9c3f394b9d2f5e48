"""What the server reports of streams and of the account, and the removal of messages."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict, cast

from edge_broker.connection.api import JetStreamApi


class StreamConfig(TypedDict, total=False):
    """Settings of a stream, in the server's own terms; those that we set."""

    name: str
    description: str
    subjects: list[str]
    retention: str
    discard: str
    discard_new_per_subject: bool
    storage: str
    num_replicas: int | None
    max_msgs_per_subject: int
    max_bytes: int | None
    max_age: int | None
    duplicate_window: int
    compression: str
    allow_direct: bool
    allow_msg_ttl: bool
    allow_rollup_hdrs: bool
    deny_delete: bool


class StreamState(TypedDict):
    """What a stream holds; `subjects` only where they were asked for.

    Attributes:
        first_ts: When the oldest message was stored, as RFC 3339; meaningless without messages.
        last_seq: The number of the last message ever stored, even if it is gone.
    """

    messages: int
    last_seq: int
    bytes: int
    first_ts: str
    subjects: NotRequired[dict[str, int] | None]


class Peer(TypedDict):
    """A copy of a stream on another server."""

    name: str
    current: NotRequired[bool]
    offline: NotRequired[bool]


class Cluster(TypedDict):
    """Where the copies of a stream are."""

    replicas: NotRequired[list[Peer] | None]


class StreamInfo(TypedDict):
    """A stream.

    Attributes:
        created: When, as RFC 3339.
        total: How many subjects match, where they were asked for.
        ts: The server's clock, as RFC 3339.
    """

    config: StreamConfig
    created: str
    state: StreamState
    cluster: NotRequired[Cluster | None]
    total: NotRequired[int]
    ts: NotRequired[str]


class AccountLimits(TypedDict, total=False):
    """Limits of the account; -1 is none."""

    max_storage: int


class AccountInfo(TypedDict, total=False):
    """What the account uses of JetStream."""

    storage: int
    limits: AccountLimits


async def stream_info(api: JetStreamApi, stream: str) -> StreamInfo:
    """A stream, without its subjects.

    Raises:
        JetStreamError: There is no such stream.
    """
    return cast("StreamInfo", await api.api(f"STREAM.INFO.{stream}"))


async def account_info(api: JetStreamApi) -> AccountInfo:
    """The account of the connection's user."""
    return cast("AccountInfo", await api.api("INFO"))


async def create_stream(api: JetStreamApi, name: str, config: Mapping[str, object]) -> StreamConfig:
    """Create a stream; returns the settings that it has now."""
    return cast("StreamInfo", await api.api(f"STREAM.CREATE.{name}", config))["config"]


async def update_stream(api: JetStreamApi, name: str, config: Mapping[str, object]) -> StreamConfig:
    """Change a stream; returns the settings that it has now."""
    return cast("StreamInfo", await api.api(f"STREAM.UPDATE.{name}", config))["config"]


async def subjects_with_messages(api: JetStreamApi, stream: str, pattern: str) -> list[str]:
    """The subjects that match a pattern and have a message, from the stream leader, page by page.

    Raises:
        JetStreamError: There is no such stream.
    """
    found: list[str] = []
    while True:
        answer = await api.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": len(found)})
        info = cast("StreamInfo", answer)
        page = info["state"].get("subjects") or {}
        found += page
        if not page or len(found) >= info.get("total", 0):
            return found


async def purge(api: JetStreamApi, stream: str, pattern: str, *, before: int | None = None) -> None:
    """Remove all messages whose subjects match a pattern, or only those before a sequence."""
    await api.api(
        f"STREAM.PURGE.{stream}", {"filter": pattern} if before is None else {"filter": pattern, "seq": before}
    )
