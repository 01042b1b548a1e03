"""Analytic fidelity: closed forms of the mechanisms that the event engines step through, over many devices at once."""
