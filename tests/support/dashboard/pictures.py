"""Pictures for the documentation, if `SCREENSHOTS` asks for them."""

import os
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.async_api import Page

IMAGES = Path(__file__).parents[3] / "docs/images/ui"
COLOURS = 240
MOST_BYTES = 150_000


async def picture(page: Page, name: str) -> None:
    """Write a picture of what a page shows."""
    if os.environ.get("SCREENSHOTS"):
        file = IMAGES / f"{name}.png"
        taken = await page.screenshot(animations="disabled", caret="hide")
        with Image.open(BytesIO(taken)) as image:
            image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
                file, optimize=True
            )
        assert file.stat().st_size < MOST_BYTES
