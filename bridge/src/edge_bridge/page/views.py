"""Where Airflow's UI shows the page: in its navigation, and on the pages of a DAG, a task and a task instance. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from edge_schemas.admin.rows import JobPage, JobRow

URL_PREFIX = "/edge-relay"
MAX_VALUE_CHARS = 250
"""As long as names are in Airflow."""
View: TypeAlias = dict[str, object]


def external_views(root: str) -> list[View]:
    """The views in Airflow's form.

    Airflow's UI fills in the names in braces. Each view needs an address of its own in the UI, `url_route`.

    Args:
        root: The path of `[api] base_url`, without a trailing slash.
    """
    page = f"{root}{URL_PREFIX}"
    task = f"{page}/open?dag={{DAG_ID}}&task={{TASK_ID}}"
    return [
        {
            "name": "Edge Relay",
            "href": f"{page}/ui/",
            "destination": "nav",
            "category": "browse",
            "url_route": "edge-relay",
        },
        _tab("dag", "Edge jobs", f"{page}/open?dag={{DAG_ID}}"),
        _tab("task", "Edge jobs", task),
        _tab("task_instance", "Edge job", f"{task}&run={{RUN_ID}}&map_index={{MAP_INDEX}}"),
    ]


def _tab(destination: str, name: str, href: str) -> View:
    route = f"edge-relay-{destination.replace('_', '-')}"
    return {"name": name, "href": href, "destination": destination, "url_route": route}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The jobs that a link from Airflow's UI names.

    Attributes:
        map_index: -1 for a task that is not mapped, or for all of a task.
    """

    dag: str
    run: str
    task: str
    map_index: int

    @property
    def is_one(self) -> bool:
        """Whether it is one task instance."""
        return bool(self.dag and self.run and self.task)

    def query(self) -> dict[str, str]:
        """For the operators' API and for the page, which know no filter by task but one by a part of its name."""
        named = {"dag_id": self.dag, "run_id": self.run, "text": self.task}
        return {name: value for name, value in named.items() if value}


def wanted(given: Mapping[str, str]) -> Wanted:
    """What a link names. For a task that is not mapped, Airflow's UI leaves `{MAP_INDEX}` as it is."""
    values = {name: given.get(name, "")[:MAX_VALUE_CHARS] for name in ("dag", "run", "task", "map_index")}
    dag, run, task, index = ("" if value.startswith("{") else value for value in values.values())
    return Wanted(dag, run, task, int(index) if index.isascii() and index.isdigit() and len(index) < 10 else -1)


def jobs_view(jobs: Wanted) -> str:
    """The page's list of these jobs, relative to the page's folder."""
    query = jobs.query()
    return "ui/#/jobs" + (f"?{urlencode(query, quote_via=quote)}" if query else "")


def job_view(page: bytes, jobs: Wanted) -> str | None:
    """The page of the newest job of a task instance; None if the answer of the operators' API has none."""
    try:
        items = JobPage.model_validate_json(page).items
    except ValidationError:
        return None  # of a relay of a later release; the list of jobs serves as well
    rows = [row for row in items if _is(row, jobs)]
    newest = max(rows, key=lambda row: row.created_at, default=None)
    return None if newest is None else f"ui/#/jobs/{quote(newest.job, safe='')}"


def _is(row: JobRow, jobs: Wanted) -> bool:
    index = -1 if row.map_index is None else row.map_index
    return (row.dag_id, row.run_id, row.task_id, index) == (jobs.dag, jobs.run, jobs.task, jobs.map_index)
