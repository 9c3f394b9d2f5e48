"""Which submissions with one key are the same, and which id a key names."""

from datetime import UTC, datetime

import pytest

from edge_relay.submissions.new_job import digest, job_id, make_record
from edge_schemas.admin.desired import DesiredQueue
from edge_schemas.producers.submissions import Submission

COMMAND = {"argv": ["/usr/bin/backup", "--password", "hunter2"]}


def submission(**fields: object) -> Submission:
    return Submission.model_validate({"command": COMMAND, **fields})


def test_a_default_that_is_sent_is_the_same_as_one_that_is_left_out() -> None:
    plain = submission(key="a")
    assert digest(plain) == digest(submission(key="b", priority=0, delay_s=0, labels={}))
    assert digest(plain) == digest(submission(command={**COMMAND, "env": {}, "timeout_s": None}))
    labels = [submission(labels={"a": "1", "b": "2"}), submission(labels={"b": "2", "a": "1"})]
    assert digest(labels[0]) == digest(labels[1])


@pytest.mark.parametrize(
    "other", [{"priority": 1}, {"labels": {"a": "b"}}, {"name": "x"}, {"command": {"argv": ["backup"]}}]
)
def test_what_differs_is_another_submission(other: dict[str, object]) -> None:
    assert digest(submission()) != digest(submission(**other))


def test_the_id_of_a_key_never_changes() -> None:
    """Recorded: with another id, a repeat after an upgrade would be a second job."""
    assert job_id("orders", "order-7") == "6fb289f2-9803-5ca0-8a2a-00fb95cd3bda"
    assert job_id("orders", None) != job_id("orders", None)


def test_the_name_of_a_command_has_none_of_its_arguments() -> None:
    record = make_record(submission(), "q", producer="p", desired=DesiredQueue(), now=datetime.now(UTC))
    assert record.terms is not None
    assert record.terms.name == "backup"
