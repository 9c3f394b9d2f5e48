"""An action on many targets: what is said of those that failed."""

import pytest

from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.actions.bulk import NOT_TRIED, act_on_all
from edge_schemas.wire.errors import ErrorCode

TARGETS = [(name, name) for name in ("a", "b", "c")]


async def test_an_outage_fails_the_targets_that_it_hit() -> None:
    async def act(target: str) -> bool:
        if target == "b":
            raise BrokerUnavailable("no answer")
        return target == "a"

    result = await act_on_all(TARGETS, act)
    assert (result.changed, result.unchanged_count) == (("a",), 0)
    assert {one.code for one in result.failures} == {ErrorCode.BROKER_UNAVAILABLE}
    assert [(one.target, one.detail) for one in result.failures] == [("b", "no answer"), ("c", NOT_TRIED)]


async def test_an_outage_that_hit_all_targets_fails_the_action() -> None:
    """The caller may then send it again as it is."""

    async def act(_: str) -> bool:
        raise BrokerUnavailable("no answer")

    with pytest.raises(BrokerUnavailable, match="no answer"):
        await act_on_all(TARGETS, act)
    assert (await act_on_all([], act)).failure_count == 0
