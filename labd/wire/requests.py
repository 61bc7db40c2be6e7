"""Parse and validate requests: the result is a model, or an error that lists every mistake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from pydantic import ValidationError

from labd.core.errors import JobError
from labd.wire.messages import DEFAULT_CLIENT, REQUESTS, Request, Submit
from labd.wire.topics import is_topic_level
from labd.wire.validation import Mistake, format_value, to_mistake, unknown_value_mistake

MAX_REQUEST_BYTES = 65_536
"""A larger request is refused unread; valid ones are far smaller."""

_JOB_IS_YOURS = (
    "is missing: choose an id; submitting it again is then harmless, because one id is "
    "never run twice"
)


class BadRequest(JobError):  # noqa: N818 - what it is called on every wire
    """A request that was refused as a whole.

    Args:
        code: ``bad-request``, or ``unknown-verb``.
        errors: every mistake, each with its place.
        client: of the reply, if that could be read.
        request: id of the request, if that could be read.
    """

    def __init__(
        self,
        code: str,
        errors: Sequence[Mistake],
        *,
        client: str = DEFAULT_CLIENT,
        request: str | None = None,
    ) -> None:
        super().__init__(code, "; ".join(str(mistake) for mistake in errors))
        self.errors = tuple(errors)
        self.client = client
        self.request = request


def parse_request(verb: str, payload: bytes) -> Request:
    """Read one request.

    Args:
        verb: the last level of the request's topic.
        payload: any bytes.

    Raises:
        BadRequest: with every mistake, and the client if the payload names one.
    """
    document, mistakes = _decode_json_object(payload)
    client, request = _read_client_and_request_id(document)
    model = REQUESTS.get(verb)
    if model is None:
        unknown = [unknown_value_mistake("verb", verb, list(REQUESTS))]
        raise BadRequest("unknown-verb", unknown, client=client, request=request)
    if document is not None:
        try:
            found = model.model_validate_json(payload)
        except ValidationError as error:
            mistakes += _explain_all(error, model)
        else:
            if not mistakes:
                return found
    raise BadRequest("bad-request", mistakes, client=client, request=request)


def _explain_all(error: ValidationError, model: type[Request]) -> list[Mistake]:
    """Translate pydantic's errors; a missing ``job`` gets the reason why it is required."""
    keys = list(model.model_fields)
    every = error.errors(include_url=False, include_context=True)
    deeper = {details["loc"][:-1] for details in every}
    mistakes = [
        to_mistake(details, keys)
        for details in every
        if not (details["type"] == "too_short" and details["loc"] in deeper)
    ]
    return [
        Mistake(at="job", text=_JOB_IS_YOURS)
        if model is Submit and (each.at, each.text) == ("job", "is missing")
        else each
        for each in mistakes
    ]


def _decode_json_object(payload: bytes) -> tuple[dict[str, Any] | None, list[Mistake]]:
    """Return the JSON object, or ``None``, and what is wrong with it."""
    if len(payload) > MAX_REQUEST_BYTES:
        return _undecodable_request(
            f"{len(payload)} bytes are too many: at most {MAX_REQUEST_BYTES}"
        )
    twice: list[Mistake] = []

    def collect_pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = Counter(key for key, _ in items)
        repeated = (format_value(key) for key, count in keys.items() if count > 1)
        twice.extend(Mistake(at="", text=f"key {key} is listed more than once") for key in repeated)
        return dict(items)

    try:
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=collect_pairs)
    except (ValueError, RecursionError) as error:
        return _undecodable_request(_why_not_json(error))
    if not isinstance(value, dict):
        return _undecodable_request(f"{format_value(value)} is not a JSON object")
    return cast("dict[str, Any]", value), twice


def _undecodable_request(text: str) -> tuple[None, list[Mistake]]:
    return None, [Mistake(at="", text=text)]


def _why_not_json(error: ValueError | RecursionError) -> str:
    match error:
        case UnicodeDecodeError():
            return f"not UTF-8: {error.reason} at byte {error.start}"
        case json.JSONDecodeError():
            return f"not JSON: {error}"
        case RecursionError():
            return "not a request: nested too deeply"
        case _:  # Python's own limit on the digits of an integer
            return "not a request: a number has thousands of digits"


def _read_client_and_request_id(document: dict[str, Any] | None) -> tuple[str, str | None]:
    """Read the client and the request id, even from a request that is otherwise wrong."""
    document = document or {}
    client, request = document.get("client"), document.get("request")
    return (
        client if isinstance(client, str) and is_topic_level(client) else DEFAULT_CLIENT,
        request if isinstance(request, str) and is_topic_level(request) else None,
    )
