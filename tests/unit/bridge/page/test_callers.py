"""Which changes are refused because another site may have sent them, and which rights amount to which role."""

from typing import Any

import pytest
from starlette.datastructures import Headers

from edge_bridge.page.callers import csrf_refusal, origin_of
from edge_bridge.page.rights import role_of
from edge_schemas.admin.access import Role

OWN = frozenset({"https://airflow.example"})


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Edge-Csrf": "airflow"}, False),
        ({"Edge-Csrf": "", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Edge-Csrf": "x", "Sec-Fetch-Site": "same-origin", "Origin": "https://other.example"}, False),
        ({"Edge-Csrf": "x", "Sec-Fetch-Site": "same-site", "Origin": "https://airflow.example"}, True),
        ({"Edge-Csrf": "x", "Sec-Fetch-Site": "none"}, True),
        ({"Edge-Csrf": "x", "Origin": "https://airflow.example"}, False),
        ({"Edge-Csrf": "x", "Origin": "http://airflow.example"}, True),
        ({"Edge-Csrf": "x", "Origin": "null"}, True),
    ],
)
def test_changes_of_other_sites(headers: dict[str, str], is_refused: bool) -> None:  # of the table
    assert (csrf_refusal(Headers(headers), OWN) is not None) is is_refused


def test_an_origin_is_compared_as_browsers_write_it() -> None:
    assert origin_of("HTTPS://Airflow.Example/a/b") == "https://airflow.example"


class Manager:
    """An auth manager with these rights."""

    def __init__(self, *rights: str, breaks: bool = False) -> None:
        self._rights, self._breaks = rights, breaks

    def is_authorized_view(self, *, access_view: Any, user: object) -> bool:
        assert user == "ann"
        if self._breaks:
            raise OSError
        return access_view.value in self._rights

    def is_authorized_pool(self, *, method: str, user: object) -> bool:
        assert user == "ann"
        return f"{method} pool" in self._rights

    def is_authorized_custom_view(self, *, method: str, resource_name: str, user: object) -> bool:
        assert user == "ann"
        return f"{method} {resource_name}" in self._rights


@pytest.mark.parametrize(
    ("rights", "role"),
    [
        ((), None),
        (("PUT pool", "PUT Roles"), None),
        (("JOBS",), Role.VIEWER),
        (("JOBS", "PUT Roles"), Role.VIEWER),
        (("JOBS", "GET pool"), Role.VIEWER),
        (("JOBS", "PUT pool"), Role.OPERATOR),
        (("JOBS", "PUT pool", "PUT Roles"), Role.ADMIN),
    ],
)
def test_rights_amount_to_a_role(rights: tuple[str, ...], role: Role | None) -> None:
    manager: Any = Manager(*rights)
    assert role_of(manager, "ann") is role


def test_an_auth_manager_that_fails_grants_nothing() -> None:
    manager: Any = Manager("JOBS", breaks=True)
    assert role_of(manager, "ann") is None
