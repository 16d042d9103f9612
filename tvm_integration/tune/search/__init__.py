"""Search of a design space: which programs of a kernel are worth measuring."""
