"""The typed keys under which both applications find the parts of the relay."""

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from edge_broker.audit import Audit
    from edge_broker.connection.broker import Broker
    from edge_broker.records import RecordStore
    from edge_relay.dispatch.dispatchers import Dispatchers
    from edge_relay.dispatch.polls import ParkedPolls
    from edge_relay.gate.centre import Centre
    from edge_relay.gate.client import GateClient
    from edge_relay.identity.access import AccessStore
    from edge_relay.identity.credentials import Credentials
    from edge_relay.identity.receipts import ReceiptKey
    from edge_relay.lifecycle import Lifecycle
    from edge_relay.metrics.exports import Exports
    from edge_relay.metrics.replica import Metrics
    from edge_relay.settings import Settings
    from edge_relay.stores.holders import Holders
    from edge_relay.stores.log_store import LogStore
    from edge_relay.stores.worker_store import WorkerStore
    from edge_relay.tracing import JobSpans

SETTINGS: web.AppKey["Settings"] = web.AppKey("settings")
LIFECYCLE: web.AppKey["Lifecycle"] = web.AppKey("lifecycle")
METRICS: web.AppKey["Metrics"] = web.AppKey("metrics")
EXPORTS: web.AppKey["Exports"] = web.AppKey("exports")
TRACES: web.AppKey["JobSpans"] = web.AppKey("traces")
BROKER: web.AppKey["Broker"] = web.AppKey("broker")
RECORDS: web.AppKey["RecordStore"] = web.AppKey("records")
WORKERS: web.AppKey["WorkerStore"] = web.AppKey("workers")
CREDENTIALS: web.AppKey["Credentials"] = web.AppKey("credentials")
RECEIPT_KEY: web.AppKey["ReceiptKey"] = web.AppKey("receipt_key")
AUDIT: web.AppKey["Audit"] = web.AppKey("audit")
POLLS: web.AppKey["ParkedPolls"] = web.AppKey("polls")
DISPATCHERS: web.AppKey["Dispatchers"] = web.AppKey("dispatchers")
ACCESS: web.AppKey["AccessStore"] = web.AppKey("access")
HOLDERS: web.AppKey["Holders"] = web.AppKey("holders")
LOGS: web.AppKey["LogStore"] = web.AppKey("logs")
GATE: web.AppKey["GateClient | None"] = web.AppKey("gate")
CENTRE: web.AppKey["Centre"] = web.AppKey("centre")
EXPOSED: web.AppKey[bool] = web.AppKey("exposed", bool)
"""Whether strangers can reach this application: it does not tell them what the installation looks like inside."""
