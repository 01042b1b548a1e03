"""Conformance suites and checkers that a new implementation inherits."""
