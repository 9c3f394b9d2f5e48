"""What tests wait for after parts were restarted."""

from edge_schemas.wire import routes
from support.nats.server import eventually
from support.system.site import Machine, Site


async def has_polled(site: Site, worker: Machine, *, after: float) -> None:
    """A poll of the worker has arrived since this time, in seconds since the epoch."""

    async def polled() -> bool:
        entry = await site.edge.relays[0].parts.workers.get(worker.identity.enrollment.worker)
        return entry is not None and entry.agent.last_poll_at.timestamp() > after

    await eventually(polled, timeout_s=60, what="the worker polls again")


async def serves_again(site: Site) -> None:
    """The relay is ready."""

    async def is_ready() -> bool:
        return (await site.edge.call("GET", routes.READYZ)).status == 200

    await eventually(is_ready, timeout_s=30, what="the relay serves again")
