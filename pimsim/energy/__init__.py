"""Energy of commands, units and links."""
