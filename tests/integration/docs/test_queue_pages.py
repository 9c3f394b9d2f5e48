"""The pages on the queue without Airflow are carried out as they are written, from nothing to both recipes."""

from pathlib import Path

import pytest

from support.pages.queue_page import QUEUE, RECIPES, needs_programs, queue_scene


@needs_programs
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_each_command_and_program_of_the_pages_works(tmp_path: Path) -> None:
    """In the order of the pages; the recipes continue where the guide ends."""
    async with queue_scene(tmp_path) as scene:
        for page in (QUEUE, RECIPES):
            for command in page.commands:
                if command in page.run:
                    await page.run[command](scene, command)
