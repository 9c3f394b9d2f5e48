"""The page on first starts lists the checks of the centre's doctors."""

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from edge_bridge.doctor import airflow_checks, api_checks, database_checks, fleet_checks, page_checks
from edge_bridge.doctor import settings_checks as airflow_settings
from edge_broker.doctor import check_ids
from edge_relay.doctor import listener_checks, settings_checks
from edge_service import keeper_checks

PAGE = Path(__file__).parents[3] / "docs/howto/first-start-fails.md"
_ID = re.compile(r"""f?"((?:settings|airflow|nats|gate|relay|database|dags|api|fleet|page)\.[a-z_{}.]+)\"""")


@pytest.mark.parametrize(
    "module",
    [
        settings_checks,
        listener_checks,
        airflow_settings,
        airflow_checks,
        api_checks,
        database_checks,
        fleet_checks,
        page_checks,
        check_ids,
        keeper_checks,
    ],
    ids=lambda module: module.__name__,
)
def test_every_check_is_on_the_page(module: ModuleType) -> None:
    page = PAGE.read_text()
    found = set(_ID.findall(inspect.getsource(module)))
    assert found
    missing = [one for one in found if "{" not in one and f"`{one}`" not in page]
    missing += [one for one in found if one.endswith(".{role}") and f"`{one.replace('{role}', 'ROLE')}`" not in page]
    assert not missing
