"""What a replica makes of entries that arrive out of order, without a broker."""

from datetime import UTC, datetime

import pytest

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.lookups import Lookups
from edge_relay.limits.kinds import ignore
from edge_schemas.wire.errors import EdgeError
from edge_schemas.wire.workers import WorkerAccess, WorkerSettings
from support.relay.parts import credentials_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HASH = "0" * 64
ENTRY = WorkerAccess(
    worker="w", secret_hash=HASH, site="s", settings=WorkerSettings(version=1, queues=("q",)), enrolled_at=NOW
)


def test_an_older_answer_does_not_undo_a_revocation() -> None:
    """The watch and an answer to a look-up come by different ways: the older value may come last."""
    broker = Broker(BrokerSettings(("nats://127.0.0.1:1",), "relay", "x"))
    lookups = Lookups(Bucket(broker, ACCESS_BUCKET), per_s=1, per_address_per_s=1, on_limit=ignore)
    credentials = credentials_of(broker, lookups)
    revoked = ENTRY.model_copy(update={"revoked_at": NOW})
    for entry in (ENTRY, revoked, ENTRY):
        credentials._apply(f"worker.{HASH}", entry.model_dump_json().encode())  # as watch and look-up do
    with pytest.raises(EdgeError, match="revoked"):
        credentials.current(HASH)
