"""Address maps, and where tables, weights and operators live."""
