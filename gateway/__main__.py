"""`python -m gateway`, and the `gateway` command."""

from gateway.cli import cli


def main() -> None:
    """Runs the command line."""
    cli(prog_name="gateway")


if __name__ == "__main__":
    main()
