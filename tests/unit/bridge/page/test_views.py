"""Where Airflow's UI shows the page, and that other processes load none of it."""

import subprocess
import sys

from edge_bridge.page.documents import with_frame_script
from edge_bridge.page.views import external_views, jobs_view


def test_addresses_begin_with_the_path_of_airflow() -> None:
    for root in ("", "/airflow"):
        assert all(str(view["href"]).startswith(f"{root}/edge-relay/") for view in external_views(root))


def test_what_airflow_leaves_open_is_left_out() -> None:
    given = {"dag": "d", "run": "", "task": "t", "map_index": "{MAP_INDEX}", "other": "x", "q": "</script>"}
    assert jobs_view(given) == "ui/#/jobs?dag=d&task=t"
    assert jobs_view({"dag": "x" * 1001}) == "ui/#/jobs"
    assert jobs_view({"map_index": "3"}) == "ui/#/jobs?map_index=3"


def test_a_document_without_a_head_stays_as_it_is() -> None:
    assert with_frame_script(b"<p>x") == b"<p>x"


def test_other_processes_of_airflow_load_nothing_of_the_page() -> None:
    code = "import sys, edge_bridge.plugin as p; p.EdgeRelayPlugin(); sys.exit('edge_bridge.page' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
