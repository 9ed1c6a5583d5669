"""``python -m wg.train.torchrun N RUN_DIR``: a run directory on N ranks of this machine.

``python -m torch.distributed.run`` itself reports a rank that ends with another code than 0 in a
traceback of its own, below the sentence that rank 0 has said, and turns every code into 1.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence

from wg.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR


def main(argv: Sequence[str]) -> int:
    """Run ``wg.train RUN_DIR`` on N ranks. Returns 0; 2 when a rank found a user's mistake; 130
    when all were told to stop; 1 when one failed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until torchrun passes signals on
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    n, run_dir = argv
    _quiet()
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={n}", "-m", "wg.train", run_dir]))
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        return EXIT_USER_ERROR if EXIT_USER_ERROR in codes else 1
    except (SignalException, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return 0


def _quiet() -> None:
    """Its loggers say which ranks ended and were stopped, which the run's own lines say too."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch.distributed") and isinstance(logger, logging.Logger):
            logger.setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
