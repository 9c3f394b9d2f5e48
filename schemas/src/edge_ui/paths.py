"""The paths of the dashboard, relative to the listener."""

from typing import Final

UI: Final = "/ui"
UI_PAGE: Final = "/ui/"
UI_ASSET: Final = "/ui/assets/{digest}/{path}"
UI_VIEW: Final = "/ui/{view}"
UI_PATHS: Final = frozenset({UI, UI_PAGE, UI_ASSET, UI_VIEW})
