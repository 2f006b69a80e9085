"""`barrelman` and `python -m barrelman`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line. `--version` alone answers without loading it."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from barrelman import __version__

        sys.stdout.write(f"barrelman {__version__}\n")
        return
    from barrelman.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
