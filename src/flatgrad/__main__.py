"""``python -m flatgrad``: the command line."""

from .cli import main

raise SystemExit(main())
