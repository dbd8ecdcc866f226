"""The command `anthropic-proxy`, also run by `python -m anthropic_proxy`."""

import errno
import sys

from anthropic_proxy.cli import standard_streams
from anthropic_proxy.server import early_signals

# A full disk, a quota, a disk error, and an output pipe without a reader.
_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE})


def main() -> None:
    """Run the command line."""
    # Before the slow imports: sockets must not take the descriptors of closed standard streams, and
    # a signal may already arrive during the imports.
    standard_streams.open_closed()
    early_signals.install_handlers()
    from anthropic_proxy.cli import main as cli  # takes some tenths of a second to import

    try:
        cli.cli()
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        standard_streams.discard_output()
        sys.exit(f"✗ can't write the output: {error.strerror}")


if __name__ == "__main__":
    main()
