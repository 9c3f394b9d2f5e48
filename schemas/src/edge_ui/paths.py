"""The paths of the dashboard, relative to the listener."""

from typing import Final

ROOT: Final = "/"
"""Leads to the page."""
UI: Final = "/ui"
UI_PAGE: Final = "/ui/"
UI_ASSET: Final = "/ui/assets/{digest}/{path}"
UI_VIEW: Final = "/ui/{view}"
UI_PATHS: Final = frozenset({ROOT, UI, UI_PAGE, UI_ASSET, UI_VIEW})
