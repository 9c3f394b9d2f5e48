"""Where Airflow's UI shows the page, and that other processes load none of it."""

import json
import subprocess
import sys

from edge_bridge.page.views import external_views, job_view, jobs_view, wanted


def test_addresses_begin_with_the_path_of_airflow() -> None:
    for root in ("", "/airflow"):
        assert all(str(view["href"]).startswith(f"{root}/edge-relay/") for view in external_views(root))


def test_what_airflow_leaves_open_is_left_out() -> None:
    given = {"dag": "d &", "run": "", "task": "t", "map_index": "{MAP_INDEX}", "other": "x", "q": "</script>"}
    assert jobs_view(wanted(given)) == "ui/#/jobs?dag_id=d%20%26&text=t"
    assert jobs_view(wanted({})) == "ui/#/jobs"
    assert wanted({"map_index": "3"}).map_index == 3
    assert [wanted({"map_index": bad}).map_index for bad in ("", "-1", "x", "9" * 10, "²")] == [-1] * 5


def _page(*rows: dict[str, object]) -> bytes:
    common = {"queue": "q", "state": "waiting", "task": "d.t", "dag_id": "d", "run_id": "r", "task_id": "t"}
    times = [f"2026-11-29T10:00:{number:02}Z" for number in range(len(rows))]
    items = [{**common, "created_at": at, **row} for at, row in zip(times, rows, strict=True)]
    return json.dumps({"items": items, "as_of": "2026-11-29T10:00:00Z"}).encode()


def test_a_task_instance_leads_to_its_newest_job() -> None:
    given = {"dag": "d", "run": "r", "task": "t"}
    page = _page({"job": "1"}, {"job": "2"}, {"job": "3", "map_index": 0}, {"job": "4", "task_id": "tt"})
    assert job_view(page, wanted(given)) == "ui/#/jobs/2"
    assert job_view(page, wanted({**given, "map_index": "0"})) == "ui/#/jobs/3"
    assert job_view(page, wanted({**given, "map_index": "1"})) is None
    assert job_view(b'{"items": "of a later release"}', wanted(given)) is None


def test_other_processes_of_airflow_load_nothing_of_the_page() -> None:
    code = "import sys, edge_bridge.plugin as p; p.EdgeRelayPlugin(); sys.exit('edge_bridge.page' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
