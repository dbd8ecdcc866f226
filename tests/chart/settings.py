"""Server settings, and the subset that the chart sets."""

from pydantic import AliasChoices, SecretStr

from anthropic_proxy.config.settings import Settings

# Settings that the chart sets from its values.
MANAGED = {
    "ANTHROPIC_PROXY_BASE_URL", "ANTHROPIC_PROXY_BIND", "CONFIG_FILE", "DRAIN_TIMEOUT",
    "METRICS_PORT", "PORT", "PROXY_API_KEYS_FILE", "TLS_CERT_FILE", "TLS_CLIENT_CA_FILE",
    "TLS_KEY_FILE", "UNIX_SOCKET", "UPSTREAM_BASE_URL",
}  # fmt: skip


def _settings() -> dict[str, bool]:
    """Return the environment variables, with True for secrets."""
    settings: dict[str, bool] = {}
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias]
        settings |= dict.fromkeys(map(str, names), SecretStr.__name__ in str(field.annotation))
    return settings


SETTINGS = _settings()
