"""What holds for every contract test."""

from collections.abc import Iterator

import pytest

from support.system.blocking import no_blocking_calls


@pytest.fixture(scope="module", autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """A blocking call of ours in an event loop fails the test."""
    with no_blocking_calls():
        yield
