"""Drawn examples are the same in every run, so that a commit cannot fail by another's luck; the slow studies draw anew."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
