"""Settings of who may ask: the keys of clients."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from anthropic_proxy import client_keys


class KeySettings(BaseSettings):
    """Part of `config.Settings`."""

    # For those who read these alone.
    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    proxy_api_keys: SecretStr | None = Field(
        default=None,
        validation_alias="PROXY_API_KEYS",
        description="a list of name=key, or of keys, separated by ; or new lines",
    )
    proxy_api_keys_file: Path | None = Field(
        default=None, validation_alias="PROXY_API_KEYS_FILE", description="a JSON or YAML file with keys"
    )

    @field_validator("proxy_api_keys", mode="after")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            client_keys.parse(value.get_secret_value())
        return value

    @property
    def needs_key(self) -> bool:
        """Whether clients need a key."""
        return self.proxy_api_keys is not None or self.proxy_api_keys_file is not None
