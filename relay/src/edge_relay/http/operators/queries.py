"""The query of a list: typed, bounded, and an unknown name is an error."""

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from edge_relay.http.bodies import explain
from edge_schemas.wire.errors import EdgeError, ErrorCode

Model = TypeVar("Model", bound=BaseModel)


def read_query(request: web.Request, model: type[Model]) -> Model:
    """The query of a call as a model.

    Raises:
        EdgeError: `invalid_request`.
    """
    if len(set(request.query)) != len(request.query):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "a name stands twice in the query")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise EdgeError(ErrorCode.INVALID_REQUEST, explain(error)) from None
