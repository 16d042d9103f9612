"""Networks as graphs, without TVM."""
