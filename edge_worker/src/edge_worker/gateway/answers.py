"""What a task's process gets for an answer, in the form that Airflow's SDK understands."""

import json

from aiohttp import web

from edge_worker.relay.client import ExecutionAnswer

_ANSWER_HEADERS = ("Content-Range", "Airflow-API-Version", "Correlation-Id")


def pass_on(answer: ExecutionAnswer) -> web.Response:
    """As it came, but without `Refreshed-API-Token` and whatever else is not for a task."""
    headers = {name: answer.headers[name] for name in _ANSWER_HEADERS if name in answer.headers}
    if answer.body or "Content-Type" in answer.headers:
        headers["Content-Type"] = answer.headers.get("Content-Type", "application/json")
    return web.Response(status=answer.status, body=answer.body or None, headers=headers)


def json_answer(status: int, detail: object) -> web.Response:
    """An error body. It is exactly `application/json`: the SDK compares the string."""
    body = json.dumps({"detail": detail}).encode()
    # Not json_response(): it adds a charset, and the SDK then takes the answer for a broken connection.
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json"})


def refusal(message: str) -> web.Response:
    """An answer that the SDK turns into an exception, also for a read."""
    return json_answer(403, {"reason": "forbidden", "message": message})


def no_longer(*, is_read: bool, message: str) -> web.Response:
    """Nothing more is done for this job. A read gets 403: anything else would become a default value.

    To a heartbeat it is Airflow's answer for a task that should not run: the supervisor ends it.
    """
    if is_read:
        return refusal(message)
    return json_answer(409, {"reason": "not_running", "message": message, "current_state": "failed"})
