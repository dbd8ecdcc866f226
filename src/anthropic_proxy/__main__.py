"""The command `anthropic-proxy`, also run by `python -m anthropic_proxy`."""

import errno
import sys

from anthropic_proxy.cli import standard_streams
from anthropic_proxy.server import early_signals

# A full disk, a disk that fails, and a reader that has exited.
_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE})


def main() -> None:
    """Run the command line."""
    # Before the slow imports: sockets must not get the numbers of standard streams, and signals
    # may arrive from now on.
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
