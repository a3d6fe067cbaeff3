"""The one exception a user is meant to read."""


class DeepclustError(Exception):
    """Bad input or an environment that does not fit.

    The message is one line: what is wrong, where, and what to do. Commands print it without a traceback and exit
    with status 1.
    """
