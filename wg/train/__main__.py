"""``python -m wg.train RUN_DIR``: one run directory as a process of its own (wg.train.run)."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    # Until the run takes its signals over, there is nothing to save: a Ctrl-C while modules are
    # imported ends the process, and not in the traceback of an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from wg.train.run import main as run

    code = run()
    if int(os.environ.get("RANK", "0")) > 0:
        # Its work is done and rank 0 has all of it: nothing is left that a teardown could break.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
