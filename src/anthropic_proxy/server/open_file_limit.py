"""Refuse to start where the process may open too few files and sockets to serve."""

import sys

from anthropic_proxy.errors import ConfigError

# What the process itself opens, and about twenty requests, each with a connection to the client and to the upstream.
_NEEDED = 64


def refuse_low_limit(workers: int) -> None:
    """Raise ConfigError when the limit on open files is too low for a server with so many workers."""
    if sys.platform == "win32":
        return
    import resource  # Windows has none

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = _NEEDED + workers
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise ConfigError(
            f"the process may open {limit} files and sockets, and needs at least {needed}: raise the limit "
            f"(`ulimit -n {needed}`, LimitNOFILE of systemd)"
        )
