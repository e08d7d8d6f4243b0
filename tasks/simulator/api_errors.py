"""The API's way of refusing a request."""

from collections.abc import Mapping
from typing import Any

REQUEST_ERROR = "invalid_request_error"


class ApiError(Exception):
    """A request answered with an error status and the API's error body.

    Statuses and types: https://platform.claude.com/docs/en/api/errors
    """

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.details = details
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON body, as the SDK parses it."""
        error: dict[str, Any] = {"type": self.error_type, "message": self.message}
        if self.details is not None:
            error["details"] = dict(self.details)
        return {"type": "error", "error": error, "request_id": request_id}


def bad_request(message: str, *, details: Mapping[str, Any] | None = None) -> ApiError:
    """A 400: the same request would be refused again."""
    return ApiError(400, REQUEST_ERROR, message, details=details)
