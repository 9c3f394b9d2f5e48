"""Which replica stores a message first."""

from collections import Counter

from edge_relay.upkeep.shares import is_first

REPLICAS = ("relay-0", "relay-1", "relay-2")


def test_each_job_has_one_first_replica_and_each_replica_about_as_many_jobs() -> None:
    """Whether or not a replica has received its own beat."""
    shares: Counter[str] = Counter()
    for number in range(3000):
        job = f"7d2f3a4e-0000-4000-8000-{number:012d}"
        first = [one for one in REPLICAS if is_first(one, job, [other for other in REPLICAS if other != one])]
        assert first == [one for one in REPLICAS if is_first(one, job, REPLICAS)]
        [replica] = first
        shares[replica] += 1
    assert min(shares.values()) > 700


def test_a_replica_that_knows_no_other_one_stores_everything() -> None:
    assert all(is_first("relay-0", str(number), ()) for number in range(50))
