"""Pages to look at, each one self-contained HTML file."""
