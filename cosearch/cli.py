"""The command `cosearch`: one file in `cosearch/commands/` per subcommand."""

from __future__ import annotations

import os

import typer

from pimsim.console import run_app
from pimsim.discovery import implementations

app = typer.Typer(
    name="cosearch",
    help="Searches recommender models and processing-in-memory hardware together, with the simulator in the loop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _name, _command in implementations("cosearch.commands", "COMMAND").items():
    if isinstance(_command, typer.Typer):  # a command with subcommands
        app.add_typer(_command, name=_name.replace("_", "-"))
    else:
        app.command(name=_name.replace("_", "-"))(_command)


def main() -> None:
    """Entry point."""
    # Threads that wait for each other sleep instead of spinning: on a machine with other work, training is ten times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    run_app(app)


if __name__ == "__main__":
    main()
