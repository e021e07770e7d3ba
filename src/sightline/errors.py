"""The errors a user can meet; each is also the builtin it stands for.

A message says where, what was found and what to do. `exit_code` is the command line's contract:
2 for input at fault, 3 where no honest answer exists.
"""


def install_advice(extra: str) -> str:
    """Say how an extra of sightline's own (`train`, `quantize`, ...) is installed; it is on no package index."""
    return f"pip install '.[{extra}]' in sightline's own folder installs it"


class SightlineError(Exception):
    """What every error of ours is."""

    exit_code = 2


class StudyError(SightlineError, ValueError):
    """The study file asks for something that does not exist or does not fit together."""


class DataError(SightlineError, ValueError):
    """Rows, files or pictures that cannot be used as they are."""


class MissingDataError(DataError, FileNotFoundError):
    """A file or a dataset that is not there; the message says what to fetch and from where."""


class UnsupportedModelError(SightlineError, NotImplementedError):
    """A model, layer or template that cannot be run with the same numbers as the long way round."""


class CorruptError(SightlineError, OSError):
    """A file of a study whose content no longer matches its manifest."""


class CheckFault(SightlineError, ValueError):
    """A fault found before training that the study did not accept by name."""


class RefusedError(SightlineError, ValueError):
    """No honest answer is possible; the message gives the reason."""

    exit_code = 3


def first_line(error: Exception) -> str:
    """Shorten what another library says of an error."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
