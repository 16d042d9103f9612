"""What models read of a kernel: rows of its stages, loops, the graph of its operators, costs."""
