"""Operators of a block, one file each: which slices of the shared weights one uses, and how it lowers.

Their arithmetic stands once, in `supernet/standalone.py`, and serves the supernet and the network on its own alike. A new
operator is a file here and a function there.
"""
