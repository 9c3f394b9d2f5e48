"""The guide for operators is carried out as it is written: a standalone relay, two real agents, every command."""

from pathlib import Path

import pytest

from support.pages.fleet_page import FLEET, operated_fleet


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_each_task_of_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, each with its effect on the agents."""
    async with operated_fleet(tmp_path, monkeypatch) as fleet:
        for command in FLEET.commands:
            await FLEET.run[command](fleet, command)
