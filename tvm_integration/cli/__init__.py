"""The command line, one file a command."""

__all__ = ["main"]


def main() -> None:
    """Run the command that the process was started with, and end with its exit code."""
    from tvm_integration.cli.app import main as run

    run()
