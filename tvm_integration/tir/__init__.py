"""Scheduled programs in TensorIR -> features, loops and graphs, without building them."""
