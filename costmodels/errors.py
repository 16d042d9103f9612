"""The errors this project raises on purpose.

Every message says what must be which, what was got, and the way out, in one line.
"""


class CostModelError(Exception):
    """Base of all errors raised on purpose."""


class InputError(CostModelError, ValueError):
    """Something the user gave cannot be used; the command line exits with code 2."""


class SchemaError(InputError):
    """Features do not have the schema that a model was made with."""


class CheckpointError(InputError):
    """A file is not a checkpoint, is damaged, or belongs to another model."""
