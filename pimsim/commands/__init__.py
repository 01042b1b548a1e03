"""One file a subcommand of `pimsim`; each defines `COMMAND`, a typer function, and imports what is heavy inside it."""
