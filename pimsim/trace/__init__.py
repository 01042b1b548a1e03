"""Trace formats in and out."""
