"""The two exceptions that a user sees as a message: one says what to change, one that a run failed."""


class UserError(Exception):
    """The user's mistake. The message names the place and the fix; the command line prints it and exits with 2."""


class RunError(Exception):
    """A run that failed through no fault of its user's input; the message says what to try. Exit status 1."""


def first_line(error: BaseException) -> str:
    r"""The first line of what an error says; its kind where it says nothing.

    >>> first_line(ValueError("no number\nat line 3")), first_line(KeyError())
    ('no number', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]
