"""A job that was given up before user code ran, and started again by the very same worker."""

from datetime import UTC, datetime

from edge_schemas.life.events import GiveUp, Start
from support.relay.edge import Edge


async def test_the_second_log_follows_the_first_at_once(edge: Edge) -> None:
    """Who holds a job is remembered for a moment, and the worker's name tells the two holds not apart."""
    worker = await edge.worker()
    job = await edge.job(worker)
    first, second = b"a line of the first start\n", b"of the second\n"
    for replica in (0, 1):
        assert (await edge.put_log(job, worker, 0, first, replica=replica)).json == {"offset": len(first)}
    await edge.records.change(job.id, GiveUp("the worker came back without it", datetime.now(UTC)))
    await edge.records.change(job.id, Start(worker.name, 2, datetime.now(UTC)))
    assert (await edge.put_log(job, worker, 0, second)).json == {"offset": len(second)}
    more = await edge.put_log(job, worker, len(second), b"more\n", replica=1)
    assert more.json == {"offset": len(second) + 5}, "the other replica remembers the first hold"
