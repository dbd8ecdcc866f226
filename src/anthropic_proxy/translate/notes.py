"""What a translation could not carry over: told to the logs, and where it matters to the model and the client."""

from dataclasses import dataclass, field


@dataclass
class Notes:
    """Filled while one request is translated.

    ignored: kinds of fields and blocks that were left out harmlessly, such as `field context_management`.
    unavailable: names of tools that only Anthropic can run and that the model was told it doesn't have.
    """

    ignored: set[str] = field(default_factory=set)
    unavailable: list[str] = field(default_factory=list)
