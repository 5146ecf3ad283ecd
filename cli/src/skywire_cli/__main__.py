"""`python -m skywire_cli`: the command, without a script on the path."""

from __future__ import annotations

from skywire_cli.entry import main

if __name__ == "__main__":
    main()
