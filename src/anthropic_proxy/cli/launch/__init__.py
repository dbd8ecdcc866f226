"""Run an agent, such as Claude Code, with the models of an upstream."""
