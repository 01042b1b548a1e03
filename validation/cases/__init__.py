"""Functions that answer with our figure for a published one; named by the reference files."""
