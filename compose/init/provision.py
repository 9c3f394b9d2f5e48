"""Runs once NATS is up: creates streams, buckets and access tokens. With `enroll`: a worker's token.

provision.py            streams and access tokens
provision.py enroll     an enrolment token for the worker of the profile `edge`
"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import ADMIN
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_schemas.wire.workers import EnrollTokenRequest
from edge_service.private_files import read_secret, write_file

PEOPLE = Path("/volumes/people")
ADMIN_FILES = Path("/volumes/admin")
TOKEN = Path("/volumes/edge/enroll.token")
WORKER_UID = 10004
PATIENCE_S = 120
TOKEN_LIFE_S = 24 * 3600


async def main(words: list[str]) -> int:
    """Run the command; returns the exit status."""
    settings = BrokerSettings((os.environ["NATS_URL"],), ADMIN, read_secret(ADMIN_FILES / "admin.password"))
    async with Broker(settings) as broker:
        await broker.wait_connected(PATIENCE_S)
        if words == ["enroll"]:
            await _enroll(broker)
        else:
            await _provision(broker)
    return 0


async def _provision(broker: Broker) -> None:
    for line in await _apply(broker):
        print(line)
    tokens, now = AccessTokenStore(broker), datetime.now(UTC)
    await tokens.ensure(read_secret(PEOPLE / "access.token"), "compose", now=now)
    await tokens.ensure(read_secret(ADMIN_FILES / "operators.token"), "airflow", now=now, for_airflow=True)
    print("access tokens: in place")


async def _apply(broker: Broker) -> list[str]:
    """Retry for `PATIENCE_S`: the servers of a cluster need some seconds to elect a leader."""
    wanted = layout.LayoutSettings(
        replicas=int((ADMIN_FILES / "replicas").read_text()),
        jobs_max_bytes=int(os.environ["JOBS_MAX_MB"]) << 20,
        logs_max_bytes=int(os.environ["LOGS_MAX_MB"]) << 20,
        logs_max_age_days=int(os.environ["LOGS_MAX_AGE_DAYS"]),
        bundles_max_bytes=int(os.environ["BUNDLES_MAX_MB"]) << 20,
    )
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await layout.apply(broker, wanted)
        except (BrokerUnavailable, layout.LayoutRefused) as problem:
            if asyncio.get_running_loop().time() > deadline:
                raise
            print(f"not yet: {problem}")
        await asyncio.sleep(1)


async def _enroll(broker: Broker) -> None:
    """Create a new token at each start, in place of the last; a worker that is enrolled does not read it."""
    queues = tuple(queue.strip() for queue in os.environ["EDGE_QUEUES"].split(",") if queue.strip())
    order = EnrollTokenRequest(queues=queues, site=os.environ["EDGE_SITE"], uses=10, ttl_s=TOKEN_LIFE_S)
    made = await EnrollmentStore(broker).create_token(order, now=datetime.now(UTC))
    write_file(TOKEN, f"{made.token}\n".encode(), mode=0o400)
    os.chown(TOKEN, WORKER_UID, WORKER_UID)
    print(f"enrolment token for site {made.site}, queues {', '.join(made.queues)}: in place for 24 h")


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
