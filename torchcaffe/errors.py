"""What goes wrong in the engine, as one exception."""


class CaffeError(RuntimeError):
    """Where Caffe would print a failed CHECK and abort the process, the engine raises this.

    The message says who (layer name and type, or file), what was found, what was wanted, and what to do.
    """
