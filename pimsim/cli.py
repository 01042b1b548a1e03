"""The command `pimsim`: one file in `pimsim/commands/` per subcommand."""

from __future__ import annotations

import typer

from pimsim.console import run_app
from pimsim.discovery import implementations

app = typer.Typer(
    name="pimsim",
    help="A cycle-approximate, event-driven simulator of processing-in-memory systems.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _name, _command in implementations("pimsim.commands", "COMMAND").items():
    app.command(name=_name.replace("_", "-"))(_command)


def main() -> None:
    """Entry point."""
    run_app(app)


if __name__ == "__main__":
    main()
