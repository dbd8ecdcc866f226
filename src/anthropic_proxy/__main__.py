"""The command `anthropic-proxy`, also as `python -m anthropic_proxy`."""

from anthropic_proxy.server import early_signals


def main() -> None:
    """Run the command line, with signals handled from the first moment on."""
    early_signals.install_handlers()
    from anthropic_proxy.cli import main as cli  # takes some tenths of a second

    cli.cli()


if __name__ == "__main__":
    main()
