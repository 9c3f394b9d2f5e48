"""The quickstart, from the installation of packages to a task that ran at the edge."""

from pathlib import Path

import pytest

from support.pages.quickstart_page import BRIDGE, QUICKSTART, WORKER, quickstart_scene


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_each_command_of_the_quickstart_works(tmp_path: Path) -> None:
    """In order; then the commands that only the READMEs of bridge and worker contain."""
    done = set(QUICKSTART.not_run)
    async with quickstart_scene(tmp_path) as scene:
        for page in (QUICKSTART, BRIDGE, WORKER):
            for command in page.commands:
                if command not in done and command not in page.not_run:
                    done.add(command)
                    await page.run[command](scene, command)
