"""`barrelman` and `python -m barrelman`."""

from __future__ import annotations

import gc
import os
import sys

EXIT_ERROR = 2

# What a start defines stays, and events hold no cycles: looking for some every 700 objects, as
# Python does unasked, is a tenth of what a small scan takes and finds nothing. What the matches of
# one part of a log are made of comes and goes together: about a hundred thousand.
_OBJECTS_BETWEEN_COLLECTIONS = 200_000


def main() -> None:
    """Runs the command line. `--version` alone answers without loading it.

    1 means "alerts found", so a failure of ours must never end with Python's own 1.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    _open_streams()
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0
        _abandon(1)
    except OSError as error:
        sys.stderr.write(f"barrelman: {error}\n")
        code = EXIT_ERROR
        _abandon(1)
    except Exception:  # noqa: BLE001  # a bug of ours: shown whole, and never taken for alerts
        sys.excepthook(*sys.exc_info())
        code = EXIT_ERROR
    gc.freeze()  # nor does Python look through all of it again at its end
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-V"]):
        from barrelman import __version__

        sys.stdout.write(f"barrelman {__version__}\n")
        return 0
    from barrelman.cli.main import run

    return run(arguments)


def _open_streams() -> None:
    """Closed standard streams lead nowhere instead of to None, and no character is refused."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _abandon(number: int) -> None:
    """What is still buffered for a stream that cannot be written to goes nowhere."""
    handle = os.open(os.devnull, os.O_WRONLY)
    os.dup2(handle, number)
    os.close(handle)


if __name__ == "__main__":
    main()
