"""What a worker remembers of the signed jobs that ran is bounded, and what it forgets is not run again either."""

import uuid
from pathlib import Path

from edge_worker.signing.ran_jobs import FILE, RanJobs

DAY = 86400.0
NOW = 20_000 * DAY


def ran_jobs(path: Path, *, now: float = NOW, max_jobs: int = 3) -> RanJobs:
    return RanJobs(path, max_age_s=14 * DAY, now=now, max_jobs=max_jobs)


def ids(number: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(number)]


def test_it_remembers_across_restarts_for_as_long_as_a_job_is_accepted(tmp_path: Path) -> None:
    old, new = ids(2)
    ran = ran_jobs(tmp_path)
    ran.add(old, NOW - 13 * DAY, NOW)
    ran.add(new, NOW, NOW)
    ran.add(new, NOW, NOW)
    assert [old in ran, new in ran, ids(1)[0] in ran] == [True, True, False]
    again = ran_jobs(tmp_path)
    assert [old in again, new in again, again.not_before] == [True, True, 0]
    later = ran_jobs(tmp_path, now=NOW + 2 * DAY)
    assert [old in later, new in later, later.not_before] == [False, True, 0]


def test_when_it_is_full_jobs_as_old_as_those_that_drop_out_are_refused(tmp_path: Path) -> None:
    jobs = ids(5)
    ran = ran_jobs(tmp_path)
    for age, job in zip((50, 40, 30, 20, 10), jobs, strict=True):
        ran.add(job, NOW - age, NOW)
    assert [job in ran for job in jobs] == [False, False, True, True, True]
    assert ran.not_before == NOW - 40 + 1
    assert ran_jobs(tmp_path).not_before == ran.not_before


def test_the_oldest_go_first_whatever_the_order_in_which_they_ran(tmp_path: Path) -> None:
    """A job that has waited for days runs after younger ones."""
    waited, *young = ids(4)
    ran = ran_jobs(tmp_path)
    for job in young[:2]:
        ran.add(job, NOW, NOW)
    ran.add(waited, NOW - 5 * DAY, NOW)
    ran.add(young[2], NOW, NOW)
    assert [job in ran for job in (waited, *young)] == [False, True, True, True]
    assert ran.not_before == NOW - 5 * DAY + 1


def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    ran = ran_jobs(tmp_path)
    for number, job in enumerate(ids(6000)):
        ran.add(job, NOW + number, NOW + number)
    assert len((tmp_path / FILE).read_text().splitlines()) < 5100


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    [job] = ids(1)
    ran = ran_jobs(tmp_path)
    ran.add(job, NOW, NOW)
    with (tmp_path / FILE).open("a") as file:
        file.write(ids(1)[0][:20])
    assert job in ran_jobs(tmp_path)
