"""Durable consumers: their settings, and what the server reports of them."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict, cast

from edge_broker.connection.api import JetStreamApi
from edge_broker.connection.errors import CONSUMER_NOT_FOUND, JetStreamError


class ConsumerConfig(TypedDict, total=False):
    """Settings of a consumer, in the server's own terms; those that we set."""

    durable_name: str
    name: str
    filter_subject: str
    ack_policy: str
    deliver_policy: str
    ack_wait: int
    max_deliver: int
    max_ack_pending: int
    max_waiting: int


class ConsumerInfo(TypedDict):
    """A consumer.

    Attributes:
        num_pending: Messages that were not delivered yet.
        num_ack_pending: Messages that were delivered and not acknowledged.
        num_waiting: Open pulls.
        num_redelivered: Of those that were delivered, how many were delivered more than once.
    """

    name: str
    config: ConsumerConfig
    num_pending: int
    num_ack_pending: int
    num_waiting: int
    num_redelivered: NotRequired[int]
    paused: NotRequired[bool]


class _Page(TypedDict):
    consumers: list[ConsumerInfo] | None
    limit: int
    total: int
    missing: NotRequired[list[str] | None]


async def ensure(api: JetStreamApi, stream: str, config: ConsumerConfig) -> None:
    """Make a consumer; nothing changes if it is there.

    Raises:
        JetStreamError: A consumer of that name exists with another configuration.
    """
    call = f"CONSUMER.CREATE.{stream}.{config['name']}.{config['filter_subject']}"
    body: Mapping[str, object] = {"stream_name": stream, "config": config}
    await api.api(call, body)


async def consumer_info(api: JetStreamApi, stream: str, name: str) -> ConsumerInfo | None:
    """A consumer; None if there is none of that name."""
    try:
        answer = await api.api(f"CONSUMER.INFO.{stream}.{name}")
    except JetStreamError as error:
        if error.code == CONSUMER_NOT_FOUND:
            return None
        raise
    return cast("ConsumerInfo", answer)


async def list_consumers(api: JetStreamApi, stream: str) -> tuple[list[ConsumerInfo], list[str]]:
    """All consumers of a stream, page by page, and the names of those that have no leader.

    Raises:
        JetStreamError: There is no such stream.
    """
    found: list[ConsumerInfo] = []
    leaderless: list[str] = []
    offset = 0
    while True:
        page = cast("_Page", await api.api(f"CONSUMER.LIST.{stream}", {"offset": offset}))
        found += page["consumers"] or ()
        leaderless += page.get("missing") or ()
        offset += page["limit"]
        if offset >= page["total"]:
            return found, leaderless
