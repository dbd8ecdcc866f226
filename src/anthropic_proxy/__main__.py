"""The command `anthropic-proxy`, also as `python -m anthropic_proxy`."""

import errno
import sys

from anthropic_proxy.cli import standard_streams
from anthropic_proxy.server import early_signals

# A full disk, a disk that fails, and a reader that has gone.
_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE})


def main() -> None:
    """Run the command line, with standard streams and with signals handled from the first moment on."""
    standard_streams.open_closed()
    early_signals.install_handlers()
    from anthropic_proxy.cli import main as cli  # takes some tenths of a second

    try:
        cli.cli()
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        standard_streams.discard_output()
        sys.exit(f"✗ can't write the output: {error.strerror}")


if __name__ == "__main__":
    main()
