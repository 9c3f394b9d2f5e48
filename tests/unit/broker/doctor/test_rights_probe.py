"""The doctors try each right of a role, with messages that do nothing."""

import pytest

from edge_broker.doctor.rights_probe import NOWHERE, allows, harmless
from edge_broker.permissions import EXECUTOR, KEEPER, READER, RELAY, rights
from edge_schemas.wire.ids import decode_name


@pytest.mark.parametrize("role", [RELAY, EXECUTOR, KEEPER, READER])
def test_every_right_of_a_component_can_be_tried(role: str) -> None:
    """A new call of the API needs a message in `_HARMLESS`: one that certainly does nothing."""
    assert [pattern for pattern in rights(role).publish if harmless(pattern) is None] == []


@pytest.mark.parametrize("call", ["STREAM.DELETE.EDGE_JOBS", "STREAM.LEADER.STEPDOWN.EDGE_JOBS", "STREAM.UPDATE.*"])
def test_what_might_do_something_is_not_sent(call: str) -> None:
    assert harmless(f"$JS.API.{call}") is None


def test_no_queue_can_have_the_name_that_is_tried() -> None:
    """Else the doctor would take a job from it."""
    with pytest.raises(ValueError, match=NOWHERE):
        decode_name(NOWHERE)


@pytest.mark.parametrize(
    ("role", "subject", "allowed"),
    [
        (RELAY, "$JS.API.CONSUMER.MSG.NEXT.EDGE_JOBS.default", True),
        (RELAY, "$JS.API.CONSUMER.MSG.NEXT.EDGE_JOBS", False),
        (RELAY, "$JS.API.CONSUMER.MSG.NEXT.EDGE_JOBS.default.more", False),
        (RELAY, "$JS.API.STREAM.DELETE.EDGE_JOBS", False),
        (EXECUTOR, "edge.jobs.-.default.job", True),
        (EXECUTOR, "edge.jobs", False),
    ],
)
def test_what_a_role_may_publish(role: str, subject: str, *, allowed: bool) -> None:
    assert allows(role, subject) is allowed
