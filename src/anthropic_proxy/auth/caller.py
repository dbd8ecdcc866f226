"""Who asks: what is known of the client of a request besides the request itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caller:
    """headers: the request's, by lower-case names. query: of its URL, without the question mark."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: str = ""

    @property
    def api_key(self) -> str:
        """The key that it came with, in either of the API's headers; empty when there is none."""
        return self.headers.get("x-api-key", "") or self._bearer_token

    @property
    def _bearer_token(self) -> str:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


ANONYMOUS = Caller()
