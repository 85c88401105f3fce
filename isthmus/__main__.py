"""`isthmus` and `python -m isthmus`."""

from __future__ import annotations

from isthmus.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
