"""Tasks whose agent was killed and never comes back end before the centre may start them elsewhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from edge_schemas.wire.offline import OfflinePolicy, OnSilence
from edge_worker.processes.table import read_processes
from edge_worker.processes.tree import is_alive, stop_tree
from edge_worker.task_host import job_files, lease
from support.airflow.api.execution_api import eventually
from support.airflow.task_host import Site

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

POLICY = OfflinePolicy.model_construct(tolerance_s=6)
"""Shorter than the wire allows: stopped after 3 s, everything gone after 5."""


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> AsyncIterator[Site]:
    """The shared one, as it was before."""
    yield running
    await running.api.die()
    await running.api.start()
    (running.runtime_dir / lease.LEASE).unlink(missing_ok=True)
    running.kill_jobs()


def _write_lease(site: Site, sent_at: float, *, boot: str | None = None) -> None:
    content = {"boot": job_files.boot_id() if boot is None else boot, "sent_at": sent_at}
    (site.runtime_dir / lease.LEASE).write_text(json.dumps(content))


def _last_entry(ledger: Path) -> float:
    """When a task last wrote into its ledger, by the lease's clock."""
    return float(ledger.read_text().splitlines()[-1])


async def _start(site: Site, tmp_path: Path, task: str, policy: OfflinePolicy) -> tuple[str, Path, Path]:
    ledger = tmp_path / f"ledger-{task}"
    site.api.variables["ledger"] = str(ledger)
    job, folder = await site.launch(task, offline=policy)
    await eventually(ledger.exists)
    return job.id, folder, ledger


async def test_without_an_agent_every_task_is_gone_before_the_tolerance_is_over(site: Site, tmp_path: Path) -> None:
    """Also one that continues after SIGTERM, has processes outside its group, or waits for an answer."""
    site.api.held["variables/v1"] = asyncio.Event()
    started = [await _start(site, tmp_path, task, POLICY) for task in ("keep_ledger", "leave_group", "blocked")]
    lasting = POLICY.model_copy(update={"on_silence": OnSilence.CONTINUE})
    _, goes_on, _ = await _start(site, tmp_path, "polite_ledger", lasting)
    blocked = started[2][0]
    await eventually(lambda: "GET variables/v1" in site.api.paths(blocked))
    contact = lease.now()
    _write_lease(site, contact)
    await site.api.die()
    results = await asyncio.gather(*(site.host.wait(folder) for _, folder, _ in started))
    assert lease.now() - contact < POLICY.tolerance_s
    for _, folder, ledger in started:
        assert not is_alive(folder)
        assert POLICY.tolerance_s / 2 - 1 < _last_entry(ledger) - contact < POLICY.tolerance_s
        assert "after 6 s the task may be started elsewhere" in (folder / job_files.TASK_LOG).read_text()
    for result in results:
        assert result.exit_code is None
        assert "had no contact with the centre" in (result.error or "")
    assert [result.final_state for result in results[:2]] == ["SERVER_TERMINATED"] * 2
    assert results[2].final_state != "success"
    processes = read_processes()
    assert [pid for pid in map(int, (tmp_path / "pids").read_text().split()) if pid in processes] == []
    log = (started[2][1] / job_files.TASK_LOG).read_text()
    assert "WRONG" not in log
    assert "AirflowSecretsBackendAccessDenied" in log
    assert is_alive(goes_on)
    await stop_tree(goes_on, grace_s=1, on_step=lambda _: None)


async def test_what_is_late_already_is_killed_and_not_taken_for_broken(site: Site, tmp_path: Path) -> None:
    """As after a suspend in which the agent died too: what the job's end is reported as is the reason, no status."""
    _, folder, _ = await _start(site, tmp_path, "polite_ledger", POLICY)
    _write_lease(site, lease.now() - 1000)
    await site.api.die()
    result = await site.host.wait(folder)
    assert result.exit_code is None
    assert "had no contact with the centre" in (result.error or "")
    assert "could not be run" not in (folder / job_files.TASK_LOG).read_text()


async def test_lease_that_is_renewed_lets_a_task_continue_without_an_agent(site: Site, tmp_path: Path) -> None:
    """As when one agent follows another: what counts is the last contact of whichever had one."""
    _write_lease(site, lease.now() - 1000, boot="an earlier boot")
    _, folder, ledger = await _start(site, tmp_path, "polite_ledger", POLICY)
    began = lease.now()
    _write_lease(site, began)
    await site.api.die()
    await eventually(lambda: lease.now() - began > 2)
    renewed = lease.now()
    _write_lease(site, renewed)
    await site.host.wait(folder)
    assert POLICY.tolerance_s / 2 - 1 < _last_entry(ledger) - renewed < POLICY.tolerance_s


async def test_agent_that_answers_judges_itself(site: Site, tmp_path: Path) -> None:
    """A lease that could not be written ends nothing as long as the gateway answers."""
    _write_lease(site, lease.now() - 1000)
    flag = tmp_path / "flag"
    site.api.variables["flag"] = str(flag)
    job, folder = await site.launch("tick", offline=POLICY)
    await eventually(lambda: sum(c.path.endswith("/heartbeat") for c in site.api.calls if c.job == job.id) >= 3)
    flag.touch()
    assert (await site.host.wait(folder)).final_state == "success"
