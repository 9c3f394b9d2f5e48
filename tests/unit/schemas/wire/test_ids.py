"""What Airflow shows as the hostname of a task."""

import pytest

from edge_schemas.wire.ids import task_hostname, worker_and_site


def test_a_hostname_can_be_taken_apart() -> None:
    assert task_hostname("plant-4-x7k2p1", "plant-4") == "plant-4-x7k2p1.plant-4"
    assert worker_and_site("plant-4-x7k2p1.plant-4") == ("plant-4-x7k2p1", "plant-4")


@pytest.mark.parametrize("other", ["press-4", "127.0.0.77", "a.b.c", "A.b", "", "a.-b"])
def test_another_hostname_names_no_site(other: str) -> None:
    assert worker_and_site(other) == (other, None)
