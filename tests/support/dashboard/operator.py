"""A person at the page: opens a view, chooses rows, fills in a dialog, confirms and reads the outcome."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from playwright.async_api import Locator, Page, expect

REASON = "because of <b>a test</b>"


@dataclass
class Person:
    """Signed in at a page.

    Attributes:
        url: Of the page.
    """

    page: Page
    url: str

    async def open(self, view: str) -> None:
        """Open a view; the page is not loaded again."""
        await self.page.goto(f"{self.url}#/{view}")
        await expect(self.page.locator("main h1")).to_be_visible()
        await expect(self.page.locator(".skeleton, .boot")).to_have_count(0)

    async def select(self, *rows: str) -> Locator:
        """Tick these rows of a list; returns the bar with the actions on them."""
        for row in rows:
            await self.page.get_by_label(f"Select {row}", exact=True).check()
        bar = self.page.get_by_role("region", name="Selected rows")
        await expect(bar).to_contain_text(f"{len(rows)} selected")
        return bar

    async def act(
        self, button: str, said: str, *, fill: Mapping[str, str] | None = None, check: Sequence[str] = ()
    ) -> float:
        """Carry out an action of the view; returns when it was confirmed, in seconds since the epoch.

        Args:
            button: Of the action.
            said: What the outcome must contain.
            fill: Texts by the labels of their fields.
            check: Labels of boxes and choices.
        """
        await self.page.get_by_role("button", name=button, exact=True).click()
        dialog = self.page.get_by_role("dialog")
        for label in check:
            await dialog.get_by_label(label, exact=True).check()
        for label, text in (fill or {}).items():
            await dialog.get_by_label(label, exact=True).fill(text)
        await dialog.get_by_label("Reason").fill(REASON)
        await expect(dialog.locator(".preview")).to_contain_text("will change")
        submit = dialog.locator("button[type=submit]")
        await expect(submit).to_be_enabled()
        began = time.time()
        await submit.click()
        await expect(dialog.locator(".result")).to_contain_text(re.compile(rf"\b1 .*{said}"))
        await dialog.get_by_role("button", name="Done").click()
        return began
