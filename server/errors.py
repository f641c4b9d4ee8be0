"""What is answered instead of an answer, in OpenAI's shape: one line, never a traceback or anybody else's text."""

from typing import Any


class ApiError(Exception):
    """A request that is refused, or that failed.

    Args:
        status: of HTTP
        message: one line for the client
        param: the field of the body that is wrong
        code: a word that programs can look for
        retry_after: seconds, for those who come too soon
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry_after = status, message, param, code, retry_after

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else kinds.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        found = {"www-authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after is not None:
            found["retry-after"] = str(max(1, int(self.retry_after + 0.999)))
        return found
