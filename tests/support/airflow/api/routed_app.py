"""The routes of Airflow's real Execution API, served by uvicorn as Airflow serves them, with one answer: not found."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

OUTSIDE = "outside of the Execution API"


@dataclass(frozen=True)
class Arrival:
    """A request as the application got it.

    Attributes:
        route: The path of the route with its placeholders; `OUTSIDE` for any other path of the server.
        params: The decoded parts of the path.
    """

    method: str
    route: str
    params: dict[str, Any]
    query: list[tuple[str, str]]


@dataclass
class RoutedApp:
    """A running server.

    Attributes:
        arrivals: Requests that had a route.
    """

    url: str = ""
    arrivals: list[Arrival] = field(default_factory=list)

    def take(self) -> list[Arrival]:
        """The arrivals since the last time."""
        taken, self.arrivals = self.arrivals, []
        return taken


@contextmanager
def serving_routes() -> Iterator[RoutedApp]:
    """The server, on loopback."""
    app = RoutedApp()
    server = uvicorn.Server(uvicorn.Config(_application(app), port=0, log_level="critical", ws="none", lifespan="off"))
    thread = threading.Thread(target=asyncio.run, args=[server.serve()], daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        app.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/execution/"
        yield app
    finally:
        server.should_exit = True
        thread.join()


def _application(app: RoutedApp) -> FastAPI:
    from airflow.api_fastapi.execution_api.routes import execution_api_router

    execution, whole = FastAPI(), FastAPI()
    for route in execution_api_router.routes:
        assert isinstance(route, APIRoute)
        _add(execution, app, route.path, list(route.methods))
    whole.mount("/execution", execution)
    _add(whole, app, "/{path:path}", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], name=OUTSIDE)
    return whole


def _add(to: FastAPI, app: RoutedApp, path: str, methods: list[str], name: str = "") -> None:
    async def arrive(request: Request) -> JSONResponse:
        query = sorted(request.query_params.multi_items())
        app.arrivals.append(Arrival(request.method, name or path, dict(request.path_params), query))
        return JSONResponse({"detail": {"reason": "not_found"}}, 404)

    to.add_api_route(path, arrive, methods=methods)
