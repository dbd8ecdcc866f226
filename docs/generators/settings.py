"""Generate docs/settings.md: the reference of all settings.

`make docs` writes the page from the fields of `Settings`.
"""

import textwrap
from collections.abc import Iterator, Mapping

from pydantic.fields import FieldInfo

from anthropic_proxy.config.env_file import ENV_FILES
from anthropic_proxy.config.setting_fields import (
    Section,
    default_in_words,
    expected_values,
    section_of,
    variable_names,
)
from anthropic_proxy.config.settings import ObservabilitySettings, ServerSettings, Settings
from anthropic_proxy.config.upstream_settings import FORMER_VARIABLES

# Examples of what the log reports, which a test compares with the code.
NOTICE = ".env line 2: UPSTREAM_APIKEY is not known; did you mean UPSTREAM_API_KEY?"
ERROR = 'invalid PORT: got "abc", expected 0 to 65535'

_COLUMNS = 100

_HEAD = """# Settings

The proxy reads its settings from variables.
One upstream needs `UPSTREAM_BASE_URL`, and usually `UPSTREAM_API_KEY`.
Several upstreams and the routes to them are in a [configuration file](configuration.md).
[.env.example](../.env.example) is a template with all variables of this page.

## Sources

A variable is read from the first of these sources that sets it:

1. the flags of the command line, such as `--port`
2. the environment of the process
3. a `.env` file
4. the default

The `.env` file is the file of `--config FILE`, or the first of these files that exists:

{files}

The proxy reads only one `.env` file.
An empty variable counts as not set.
Quotes around a value are removed, except around passwords, because some container tools keep them.
Names of variables are case-insensitive.
The log reports unknown names that resemble a setting, and lines that are not `NAME=value`:

```
{notice}
```

A value that is not valid prevents the start, and all such values are reported together:

```
{error}
```

## Reload

The proxy reloads the `.env` file, the configuration file and the file of client keys when they
change, every `RELOAD_INTERVAL` seconds, or when it receives SIGHUP.
It also reloads changed contents of `TLS_CERT_FILE` and `TLS_KEY_FILE`.
An invalid configuration is rejected, and the previous one stays in effect.
Changes of these settings, such as another path, take effect only after a restart:
{restart}
"""

_TAIL = """## Network variables

The HTTP and TLS libraries of the proxy read these variables, from the environment or the `.env`
file.
Their names may also be in lower case.

| Variable | Description |
|---|---|
| `HTTP_PROXY` | HTTP proxy for upstreams with `http://`. |
| `HTTPS_PROXY` | HTTP proxy for upstreams with `https://`. |
| `ALL_PROXY` | HTTP proxy for upstreams without one of these two variables. |
| `NO_PROXY` | Hosts that the proxy connects to directly, separated by commas. |
| `SSL_CERT_FILE` | PEM file with the trusted certificate authorities, \
in place of those of the system. An unreadable file prevents the start. |
| `SSL_CERT_DIR` | Directories with the trusted certificate authorities, separated by `:`. \
A missing directory prevents the start. |

The variables of OpenTelemetry (`OTEL_*`) configure [traces](traces.md).
"""


# The pages that describe the subjects of the sections.
_PAGES: Mapping[Section, tuple[str, ...]] = {
    Section.UPSTREAM: ("upstreams.md", "passthrough.md"),
    Section.UPSTREAM_TIMEOUTS: (),
    Section.UPSTREAM_REQUESTS: ("routing.md",),
    Section.MODELS: ("models.md",),
    Section.CONTENT: ("thinking.md", "tools.md"),
    Section.CLIENTS: ("keys.md", "security.md"),
    Section.RATE_LIMITS: ("rate-limits.md",),
    Section.SERVER: ("health.md", "containers.md"),
    Section.TLS: ("security.md",),
    Section.LIMITS: ("front-proxies.md",),
    Section.OBSERVABILITY: ("logs.md", "metrics.md"),
}


def render_page() -> str:
    """Return the page in Markdown."""
    parts = [_render_head()]
    for section in Section:
        parts.append("\n".join([f"## {section}", "", *_render_section(section), ""]))
    parts.append(_TAIL)
    return "\n".join(parts)


def _render_head() -> str:
    files = "\n".join(f"- `{file}`" for file in ENV_FILES)
    names = ", ".join(f"`{name}`" for name in _restart_variables())
    return _HEAD.format(
        files=files, notice=NOTICE, error=ERROR, restart=textwrap.fill(f"{names}.", _COLUMNS)
    )


def _restart_variables() -> Iterator[str]:
    """Yield the variables that a reload does not apply, in the order of the page."""
    names = {*ServerSettings.model_fields, *ObservabilitySettings.model_fields}
    for section in Section:
        for name, field in Settings.model_fields.items():
            if name in names and section_of(field) is section:
                yield variable_names(field)[0]


def _render_section(section: Section) -> Iterator[str]:
    links = [f"[{page}]({page})" for page in _PAGES[section]]
    if links:
        yield f"See {' and '.join(links)}."
        yield ""
    yield "| Variable | Values | Default | Description |"
    yield "|---|---|---|---|"
    for field in Settings.model_fields.values():
        if section_of(field) is section:
            cells = (_names(field), expected_values(field), _default(field), field.description)
            yield f"| {' | '.join(map(str, cells))} |"


def _names(field: FieldInfo) -> str:
    """Return the variables of a setting: the preferred name, then its aliases."""
    name, *aliases = variable_names(field)
    text = f"`{name}`"
    for alias in aliases:
        is_former = alias in FORMER_VARIABLES
        text += f" (or `{alias}`, deprecated)" if is_former else f" (or `{alias}`)"
    return text


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return default_in_words(field)
    if field.default in ((), frozenset()):
        return "none"
    return f"`{str(field.default).lower()}`"


if __name__ == "__main__":
    print(render_page(), end="")  # noqa: T201 - the page is this module's output
