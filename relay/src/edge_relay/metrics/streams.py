"""The figures of the streams and of their space on disk, read from the server."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.stream_info import StreamInfo, account_info, stream_info
from edge_broker.layout import stream_configs

STREAMS = tuple(str(config["name"]) for config in stream_configs())
_LABELS = ("stream",)


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """One stream.

    Attributes:
        max_bytes: None if there is no limit.
    """

    bytes: int
    messages: int
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """The account's space on the server's disks; `max_bytes` is None if there is no limit."""

    bytes: int
    max_bytes: int | None


async def read_streams(broker: Broker) -> dict[str, StreamFigures]:
    """All streams of the layout.

    Raises:
        BrokerUnavailable: Not all of them could be read.
        JetStreamError: One is missing.
    """
    return {name: _stream_figures(await stream_info(broker, name)) for name in STREAMS}


async def read_store(broker: Broker) -> StoreFigures:
    """The JetStream account.

    Raises:
        BrokerUnavailable: No answer.
    """
    info = await account_info(broker)
    return StoreFigures(int(info["storage"]), _limit(info["limits"]["max_storage"]))


def stream_families(streams: Mapping[str, StreamFigures], store: StoreFigures | None) -> Iterator[GaugeMetricFamily]:
    """The families of streams and store; without figures they have no samples."""
    size = GaugeMetricFamily("edge_broker_stream_bytes", "Size of a stream", labels=_LABELS)
    limit = GaugeMetricFamily(
        "edge_broker_stream_max_bytes", "Limit of a stream's size; absent if there is none", labels=_LABELS
    )
    messages = GaugeMetricFamily("edge_broker_stream_messages", "Messages in a stream", labels=_LABELS)
    for name, stream in streams.items():
        size.add_metric((name,), stream.bytes)
        messages.add_metric((name,), stream.messages)
        if stream.max_bytes is not None:
            limit.add_metric((name,), stream.max_bytes)
    yield from (size, limit, messages)
    used = GaugeMetricFamily("edge_broker_store_bytes", "Space on disk that JetStream uses for this account")
    room = GaugeMetricFamily(
        "edge_broker_store_max_bytes", "Space on disk that JetStream may use for this account; absent without a limit"
    )
    if store is not None:
        used.add_metric((), store.bytes)
        if store.max_bytes is not None:
            room.add_metric((), store.max_bytes)
    yield from (used, room)


def _stream_figures(info: StreamInfo) -> StreamFigures:
    state = info["state"]
    return StreamFigures(int(state["bytes"]), int(state["messages"]), _limit(info["config"].get("max_bytes", -1)))


def _limit(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None
