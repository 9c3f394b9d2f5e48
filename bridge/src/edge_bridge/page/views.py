"""Where Airflow's UI shows the page: in its navigation, and on the pages of a DAG, a task and a task instance. Pure."""

from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import quote, urlencode

URL_PREFIX = "/edge-relay"
PARAMETERS = ("dag", "run", "task", "map_index")
MAX_VALUE_CHARS = 1000
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


def jobs_view(given: Mapping[str, str]) -> str:
    """The page's list of jobs, limited to what a link from Airflow's UI names; relative to the page's folder.

    For a task that is not mapped, Airflow's UI leaves `{MAP_INDEX}` as it is.
    """
    wanted = {
        name: given[name]
        for name in PARAMETERS
        if given.get(name) and len(given[name]) <= MAX_VALUE_CHARS and not given[name].startswith("{")
    }
    return "ui/#/jobs" + (f"?{urlencode(wanted, quote_via=quote)}" if wanted else "")
