"""Check RATE_LIMIT_STORAGE_URL at the start, before requests use the storage.

Errors show only names of options, because other parts of a malformed URL may be a password.
"""

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

# Storages in the memory of one process.
IN_PROCESS = frozenset({"memory://", "sqlite:///:memory:"})

# Options of redis-py that a URL can set.
_NUMBERS = frozenset({"db", "protocol", "socket_read_size", "max_connections"})
_SECONDS = frozenset(
    {"socket_timeout", "socket_connect_timeout", "health_check_interval", "timeout"}
)
_REDIS_OPTIONS = _NUMBERS | _SECONDS | {"username", "password", "client_name", "socket_keepalive"}
_TLS_OPTIONS = frozenset(
    {
        "ssl_keyfile",
        "ssl_certfile",
        "ssl_password",
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_ca_data",
        "ssl_check_hostname",
        "ssl_min_version",
        "ssl_ciphers",
        "ssl_include_verify_flags",
        "ssl_exclude_verify_flags",
    }
)
_OPTIONS = {
    "redis": _REDIS_OPTIONS,
    "rediss": _REDIS_OPTIONS | _TLS_OPTIONS,
    "redis+unix": _REDIS_OPTIONS - {"socket_keepalive"},
}

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"[0-9]{1,9}")
_SECONDS_VALUE = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


def check_storage_url(url: str) -> None:
    """Raise ValueError with the problem and the remedy, if the URL is malformed."""
    if _BAD_ESCAPE.search(url):
        raise ValueError("a % is not followed by two hexadecimal digits: write %25 for a %")
    try:
        unquote(url, errors="strict")
        split = urlsplit(url)
        port = split.port
    except UnicodeDecodeError:
        raise ValueError("a percent-encoded character is not UTF-8") from None
    except ValueError:
        raise ValueError(
            "host or port is malformed (a port is a number from 1 to 65535; "
            "in a password /, ?, #, @ and : are percent-encoded)"
        ) from None
    if split.fragment or url.endswith("#"):
        raise ValueError("a # starts a fragment, which is not supported: write %23 for a #")
    if port == 0:
        raise ValueError("a port is a number from 1 to 65535")
    if split.scheme == "sqlite" and split.query:
        raise ValueError("sqlite:/// has no options: write %3F for a ? in the path")
    if split.scheme in _OPTIONS:
        _check_redis(split)


def _check_redis(split: SplitResult) -> None:
    options = _options(split)
    if split.scheme == "redis+unix":
        if split.hostname:
            raise ValueError(
                "the path of the socket must be absolute: redis+unix:///path/of/the/socket"
            )
        if split.path in ("", "/"):
            raise ValueError("the path of the socket is missing: redis+unix:///path/of/the/socket")
        return
    database = split.path.removeprefix("/")
    if database and not _NUMBER.fullmatch(database):
        raise ValueError("the database is not a number: redis://host:6379/0")
    if database and "db" in options:
        raise ValueError("the database is set twice: in the path, and by the option db")


def _options(split: SplitResult) -> dict[str, str]:
    if "@" in split.query:
        raise ValueError(
            "a ? starts the options: write %3F for a ? in a password, and %40 for a @ in an option"
        )
    names = _OPTIONS[split.scheme]
    options: dict[str, str] = {}
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        if name not in names:
            raise ValueError(
                f"unknown option {_show_name(name)}: expected one of {', '.join(sorted(names))}"
            )
        if name in options:
            raise ValueError(f"duplicate option {name}")
        _check_option(name, value)
        options[name] = value
    return options


def _check_option(name: str, value: str) -> None:
    if not value:
        raise ValueError(f"the option {name} has no value")
    if name in _NUMBERS and not _NUMBER.fullmatch(value):
        raise ValueError(f"the option {name} is not a number")
    if name in _SECONDS and not _SECONDS_VALUE.fullmatch(value):
        raise ValueError(f"the option {name} is not a number of seconds")


def _show_name(name: str) -> str:
    """Return the name of an option, unless it may be a part of a password that contains a ?."""
    if re.fullmatch(r"[a-z_]{1,40}", name):
        return name
    return "(not shown, because it may be a part of a password)"
