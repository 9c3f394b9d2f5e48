"""A real Prometheus, with the scrape jobs and rules of compose, reads a system of real parts under load."""

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

# PyYAML ships no types.
import yaml  # type: ignore[import-untyped]

from grafana.boards import __main__ as boards
from support.nats.server import eventually
from support.system.busy_system import SIMULATED, UNSERVED, BusySystem, busy_system
from support.system.prometheus import ROOT, Prometheus, program, running_prometheus

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

CONFIG = ROOT / "compose" / "prometheus" / "prometheus.yml"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(boards.FOLDER.glob("*.json"))}
# What these tests cannot make happen in seconds. Each expression is one of a panel's; the rest of the panel has data.
WITHOUT_DATA = {
    "sum by (outcome) (increase(edge_executor_adopted_total[1h]))": "no scheduler died",
    'sum by (status) (rate(edge_relay_pull_errors_total{instance=~"$instance"}[$__rate_interval]))': "no pull failed",
}
# These come with how calls and pulls happen to go, or with a worker's second poll, whenever that is; not with jobs.
BY_CHANCE = (
    *("edge_relay_requests_total", "edge_relay_request_seconds", "edge_relay_pull_errors_total"),
    *("edge_keeper_gate_calls_total", "edge_worker_cpu_busy_ratio", "edge_worker_clock_skew_seconds"),
    "edge_worker_info",
)


@dataclass
class Watched:
    """The system, who watches it, and the series there were after some jobs and after three times as many."""

    system: BusySystem
    prometheus: Prometheus
    few: set[str]
    many: set[str]
    ran: tuple[int, int]


async def all_series(prometheus: Prometheus) -> set[str]:
    """What the system exports now, and what is recorded of it; one text for each series."""
    found = await prometheus.query('{__name__=~".+", job=~"relay|keeper|executor|", __name__!~"ALERTS.*|up|scrape_.*"}')
    return {json.dumps(series["metric"], sort_keys=True) for series in found}


async def scraped(prometheus: Prometheus, system: BusySystem) -> None:
    """All that has happened until now was scraped from everywhere, and recorded."""
    began = time.time()  # of the same machine
    targets = sum(len(addresses) for addresses in system.targets.values())
    fresh = f'count((timestamp(up{{job=~"relay|keeper|executor"}}) > {began + 1}) and up == 1) == {targets}'
    recorded = f"timestamp(site_state:edge_workers:max) > {began + 2}"
    for expr in (fresh, recorded):
        await eventually(partial(prometheus.query, expr), timeout_s=20, what=expr)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    root = tmp_path_factory.mktemp("watched")
    program("prometheus")
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        system = await stack.enter_async_context(busy_system(root, patch))
        config = yaml.safe_load(CONFIG.read_text())
        warm = asyncio.create_task(system.begin_a_long_task(), name="warm")
        prometheus = await stack.enter_async_context(running_prometheus(root / "prometheus", config, system.targets))
        await scraped(prometheus, system)  # a rate needs to have seen where a counter began
        await system.have_everything_happen()
        await warm
        await system.work(4, 16)
        await eventually(
            partial(prometheus.query, "edge_keeper_heartbeats_total > 0"), timeout_s=30, what="a heartbeat"
        )
        await scraped(prometheus, system)
        few, ran = await all_series(prometheus), len(system.jobs)
        await system.work(8, 40)
        await scraped(prometheus, system)
        many = await all_series(prometheus)
        yield Watched(system, prometheus, few, many, (ran, len(system.jobs)))


async def test_no_series_grows_with_jobs(watched: Watched) -> None:
    """Three times as many jobs, the same series; and nowhere the id of a job."""
    few, many = watched.ran
    assert many >= 2.5 * few

    def lasting(found: set[str]) -> set[str]:
        return {series for series in found if not any(name in series for name in BY_CHANCE)}

    assert len(lasting(watched.few)) > 300
    assert lasting(watched.few) == lasting(watched.many)
    for series in watched.many:
        assert not watched.system.jobs & set(json.loads(series).values()), series


async def test_promtool_accepts_what_each_part_exports(watched: Watched) -> None:
    """Names, units, types and help texts are as Prometheus wants them."""
    for job, addresses in watched.system.targets.items():
        async with watched.prometheus.session.get(f"http://{addresses[0]}/metrics") as answer:
            assert answer.status == 200
            text = await answer.read()
        promtool = await asyncio.create_subprocess_exec(
            *(program("promtool"), "check", "metrics"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await promtool.communicate(text)
        assert (promtool.returncode, said.decode()) == (0, ""), f"{job}: {said.decode()}"


async def test_all_rules_are_evaluated(watched: Watched) -> None:
    """Nothing fails, such as a match of several series with several; each recorded figure is there."""
    groups = (await watched.prometheus.ask("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 40
    assert {rule["health"] for rule in rules} == {"ok"}, [rule for rule in rules if rule["health"] != "ok"]
    for rule in rules:
        if rule["type"] == "recording":
            assert await watched.prometheus.query(rule["name"]), rule["name"]


async def test_the_alerts_that_fire_are_those_that_should(watched: Watched) -> None:
    """A job was parked and one was lost. Nothing else is wrong, so nothing else fires."""
    firing = await watched.prometheus.query('ALERTS{alertstate="firing"}')
    names = {alert["metric"]["alertname"] for alert in firing}
    assert "EdgeDeadJobs" in names
    assert names <= {"EdgeDeadJobs", "EdgeJobsLost"}
    alerts = (await watched.prometheus.ask("alerts"))["alerts"]
    [dead] = [alert for alert in alerts if alert["labels"]["alertname"] == "EdgeDeadJobs"]
    assert dead["annotations"]["summary"] == f"1 jobs of queue {SIMULATED} are parked"
    assert dead["annotations"]["runbook_url"] == "docs/runbooks/queues.md#edgedeadjobs"


def filled_in(expr: str, machine: str) -> str:
    """An expression as Grafana sends it, with `All` chosen in each list."""
    values = {"__rate_interval": "1m", "worker": machine}
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], ".*"), expr)


def has_figures(result: list[dict[str, Any]]) -> bool:
    return any(not math.isnan(float(series["value"][1])) for series in result)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
async def test_every_query_of_a_dashboard_has_figures(watched: Watched, board: dict[str, Any]) -> None:
    """No panel is empty, or full of what is no number, but for the exceptions that are named."""
    machine = watched.system.machine.identity.enrollment.worker
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            result = await watched.prometheus.query(filled_in(target["expr"], machine))
            if target["expr"] not in WITHOUT_DATA:
                assert has_figures(result), f"{panel['title']}: {target['expr']}"
            if panel["type"] == "table":
                # Grafana makes one row of what agrees in all labels: a name would keep figures apart.
                assert not any("__name__" in series["metric"] for series in result), panel["title"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
async def test_every_variable_of_a_dashboard_has_values(watched: Watched, board: dict[str, Any]) -> None:
    found = {}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            # A query of another form fails the test here.
            series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
            answer = await watched.prometheus.ask(f"label/{label}/values", **{"match[]": filled_in(series, "")})
            found[variable["name"]] = set(answer)
    # There are no teams here.
    assert all(values for name, values in found.items() if name != "team"), found
    assert found.get("queue", {SIMULATED, UNSERVED}) >= {SIMULATED, UNSERVED}
    assert found.get("site", {"site-0", "site-1"}) >= {"site-0", "site-1"}


async def test_exceptions_are_those_of_panels(watched: Watched) -> None:
    """An exception whose panel was changed or has data by now is noticed."""
    used = {
        target["expr"] for board in BOARDS.values() for panel in board["panels"] for target in panel.get("targets", ())
    }
    assert used >= WITHOUT_DATA.keys()
