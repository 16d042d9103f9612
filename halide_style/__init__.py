"""Halide-style kernel cost model: hand-made terms weighted by coefficients of a small network."""
