"""A nats-server seen from Airflow's threads, and Airflow's configuration for bundles that are published."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import ADMIN, PUBLISHER, READER
from support.nats.server import PASSWORDS
from support.nats.sync_nats import RunningNats

T = TypeVar("T")

Run = Callable[..., tuple[int, str, str]]
"""Runs a command of `bundles`; returns exit status, output and errors."""
LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"


class Nats:
    """The server, seen from a test without an event loop.

    Attributes:
        url: Of the server.
    """

    def __init__(self, running: RunningNats) -> None:
        self.url = running.url

    def ask(self, work: Callable[[Broker], Awaitable[T]]) -> T:
        """Do something as user admin."""

        async def run() -> T:
            async with Broker(BrokerSettings((self.url,), ADMIN, PASSWORDS[ADMIN])) as broker:
                await broker.wait_connected(10)
                return await work(broker)

        return asyncio.run(run())


def entry(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    """A published bundle of a local folder in `dag_bundle_config_list`."""
    kwargs = {"inner": {"classpath": LOCAL, "kwargs": {"path": str(folder)}}, "refresh_interval": 1, **more}
    return {"name": name, "classpath": "edge_bridge.bundles.PublishedBundle", "kwargs": kwargs}


def settings_for(url: str, home: Path, bundles: list[dict[str, Any]]) -> dict[str, str]:
    """Airflow's settings for publishing."""
    return {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "storage"),
        "AIRFLOW__EDGE_RELAY__NATS_URLS": url,
        "AIRFLOW__EDGE_RELAY__PUBLISHER_PASSWORD": PASSWORDS[PUBLISHER],
        "AIRFLOW__EDGE_RELAY__READER_PASSWORD": PASSWORDS[READER],
    }
