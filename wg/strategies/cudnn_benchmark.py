from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def cudnn_benchmark(plan: Plan) -> None:
    """cuDNN's algorithm for every convolution chosen by trial, once for each shape.

    Why: cuDNN's own rule of thumb knows little of long, dilated 1-d convolutions.
    Source: torch.backends.cudnn.benchmark.
    Cost: the trials, in the first steps of every new shape, on the clock `train`; memory for the
    fastest algorithm's workspace.
    Fails: on a CPU it has no effect at all. Shapes that often change (`curriculum`, `batch_ramp`)
    are tried again each. Trials may end differently next time, so a resumed run continues with
    other rounding. Scoring is always done without it. Not measured on a GPU.
    """
    plan.cudnn_benchmark = True
