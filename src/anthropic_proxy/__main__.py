"""`python -m anthropic_proxy`: the same as the command `anthropic-proxy`."""

from anthropic_proxy.cli import main

if __name__ == "__main__":
    main()
