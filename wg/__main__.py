"""``python -m wg`` is ``wg``."""

from wg.cli import main

main()
