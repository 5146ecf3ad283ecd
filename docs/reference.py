"""Build the API reference of the SDK: `make docs`. A name without a page, or a broken docstring, is an error."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pdoc
import skywire_app
import skywire_app.blocking


def main(target: Path) -> None:
    """Write the pages."""
    warnings.simplefilter("error")
    # Fields of named tuples: shown as they are written.
    warnings.filterwarnings("ignore", "Error parsing type annotation")
    # Names that are loaded when they are first used.
    for name in skywire_app.__all__:
        vars(skywire_app)[name] = getattr(skywire_app, name)
    pdoc.render.configure(docformat="restructuredtext", footer_text="Skywire SDK", search=True)
    modules = (skywire_app, skywire_app.blocking)
    pdoc.pdoc(*(module.__name__ for module in modules), output_directory=target)
    for module in modules:
        page = target.joinpath(*module.__name__.split(".")).with_suffix(".html").read_text()
        missing = [name for name in module.__all__ if f'id="{name}"' not in page]
        if missing:
            sys.exit(f"{module.__name__}: nothing is said of {', '.join(missing)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
