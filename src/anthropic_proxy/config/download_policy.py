"""The hosts from which files may be downloaded: none, public hosts, listed hosts, or all."""

import re
from dataclasses import dataclass
from typing import Literal

DownloadScope = Literal["public", "off", "all"]

_HOST = re.compile(r"\.?[\w-]+(\.[\w-]+)*\.?|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)


@dataclass(frozen=True)
class DownloadPolicy:
    """The hosts from which files may be downloaded."""

    scope: DownloadScope = "public"
    # If not empty, the only allowed hosts; they may be private. A name with a leading dot allows
    # every host below it.
    allowed_hosts: tuple[str, ...] = ()

    @property
    def public_only(self) -> bool:
        """Whether all addresses of a host must be public."""
        return self.scope == "public" and not self.allowed_hosts

    @property
    def uses_proxy(self) -> bool:
        """Whether downloads may use HTTP_PROXY, which resolves names without our check."""
        return self.scope == "all"

    def allows(self, host: str) -> bool:
        """Return whether `host` (lower case, in ASCII) is allowed, regardless of its addresses."""
        host = host.removesuffix(".")
        if not self.allowed_hosts or host in self.allowed_hosts:
            return True
        domains = tuple(each for each in self.allowed_hosts if each.startswith("."))
        return host.endswith(domains)


def parse_hosts(text: str) -> tuple[str, ...]:
    """Return the hosts in a list with commas, `;` or spaces between them. Raises ValueError."""
    return tuple(map(_parse_host, filter(None, re.split(r"[\s,;]+", text))))


def _parse_host(text: str) -> str:
    name = text.removeprefix("[").removesuffix("]")
    if not _HOST.fullmatch(name):
        raise ValueError(f"{text!r} is not a host name: remove the scheme, port and path")
    if ":" in name:
        return name.lower()
    dot = "." if name.startswith(".") else ""
    try:
        return dot + name.strip(".").encode("idna").decode().lower()
    except UnicodeError:
        raise ValueError(f"{text!r} is not a host name") from None
