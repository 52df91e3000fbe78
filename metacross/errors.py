"""The one exception that means: the user can fix this."""


class UserError(Exception):
    """The user's mistake. The message names the place and the fix; the command line prints it and exits with 2."""


class RunError(Exception):
    """A run that failed through no fault of its user's input; the message says what to try. Exit status 1."""
