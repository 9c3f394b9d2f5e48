"""Calls that come twice, because an answer was lost or a proxy repeated them."""

from support.relay import agent, publish
from support.relay_edge import Edge


async def test_a_release_that_is_repeated_counts_once(edge: Edge) -> None:
    """Else three lost answers would put a job aside that two workers gave back."""
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    for replica in (0, 1, 0):
        assert (await one.release(grant, replica=replica)).status == 204
    [again] = await one.grants()
    assert (await one.release(again)).status == 204
    record = await edge.records.get(job.id)
    assert record is not None
    assert len(record.releases) == 2, "one for each grant"
