"""The caller of a request: its headers, query and API key."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caller:
    """The sender of a request, as described by the request."""

    # Names are in lower case.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    # Query of the URL, without the question mark.
    query: str = ""

    @property
    def api_key(self) -> str:
        """The key in `x-api-key` or `authorization`; empty if there is none."""
        return self.headers.get("x-api-key", "") or self._bearer_token

    @property
    def _bearer_token(self) -> str:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


ANONYMOUS = Caller()
