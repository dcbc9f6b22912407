"""`python -m gateway`, and the `gateway` command."""

import sys

from gateway.cli.main import cli
from gateway.cli.output import fail
from gateway.cli.standard_streams import end_output, hold_standard_descriptors


def main() -> None:
    """Runs the command line. When output can't be written: prints one line, exits 1, as for every other failure."""
    hold_standard_descriptors()
    failed = "standard output can't be written"
    try:
        cli(prog_name="gateway")
    except OSError as error:
        end_output()
        fail(f"{error.filename or failed}: {error.strerror}")
    except SystemExit as end:
        if not end_output() and not end.code:
            fail(failed)
        sys.exit(end.code)


if __name__ == "__main__":
    main()
