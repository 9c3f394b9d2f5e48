"""`/ui`: the dashboard's page and its assets, on the operators' listener. Needs no credential: it holds no data."""

from aiohttp import web

from edge_ui.files import UiFiles
from edge_ui.paths import ROOT, UI, UI_ASSET, UI_PAGE, UI_VIEW
from edge_ui.policy import headers
from edge_ui.serving import Ui, UiAnswer


class UiHandlers:
    """The dashboard.

    Args:
        files: Its files.
        frame_ancestors: Which pages may show it in a frame.
    """

    def __init__(self, files: UiFiles, frame_ancestors: tuple[str, ...]) -> None:
        self._ui = Ui(files, headers(frame_ancestors))

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.get(ROOT, self.add_folder),
            web.get(UI, self.add_folder),
            web.get(UI_PAGE, self.page),
            web.get(UI_ASSET.replace("{path}", "{path:.+}"), self.page),
            web.get(UI_VIEW.replace("{view}", "{view:[a-z-]+(/[^/]+)?}"), self.page),
        ]

    async def add_folder(self, _: web.Request) -> web.Response:
        """The page's own addresses are relative to its folder."""
        return _response(self._ui.moved("ui/"))

    async def page(self, request: web.Request) -> web.Response:
        """The page, an asset, or the way to a view."""
        answer = self._ui.answer(request.path.removeprefix(UI_PAGE), request.rel_url.raw_query_string, request.headers)
        if answer is None:
            raise web.HTTPNotFound
        return _response(answer)


def _response(answer: UiAnswer) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body or None)
