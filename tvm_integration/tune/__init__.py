"""Tuning of a network: the session and its state, the cost model, and the search for programs."""
