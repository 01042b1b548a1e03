"""Arithmetic as the hardware does it: number formats and their rounding."""
