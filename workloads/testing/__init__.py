"""Conformance suites that a new implementation inherits in three lines."""
