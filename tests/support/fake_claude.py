"""Replace Claude Code in the commands of pages: send one request, and print the response."""

import argparse
import json
import os
import sys
from pathlib import Path

import httpx


def main() -> None:
    """Read the variables that Claude Code reads, also from ~/.claude/settings.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--permission-mode")
    parser.add_argument("-p", "--print", action="store_true")
    parser.add_argument("prompt", nargs="?", default="Hi")
    arguments = parser.parse_args()
    variables = dict(os.environ)
    settings = Path.home() / ".claude" / "settings.json"
    if settings.exists():
        variables |= json.loads(settings.read_text()).get("env", {})
    if "ANTHROPIC_API_KEY" in variables:
        raise SystemExit("Detected a custom API key in your environment")
    model = arguments.model or variables.get("ANTHROPIC_MODEL", "claude-sonnet-4-5")
    response = httpx.post(
        f"{variables['ANTHROPIC_BASE_URL']}/v1/messages",
        json={
            "model": model,
            "max_tokens": 9,
            "messages": [{"role": "user", "content": arguments.prompt}],
        },
        headers={"authorization": f"Bearer {variables['ANTHROPIC_AUTH_TOKEN']}"},
        trust_env=False,
    )
    if response.is_error:
        raise SystemExit(f"API Error: {response.status_code} {response.text}")
    sys.stdout.write(response.json()["content"][0]["text"] + "\n")


if __name__ == "__main__":
    main()
