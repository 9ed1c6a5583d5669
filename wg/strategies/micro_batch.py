from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def micro_batch(plan: Plan) -> None:
    """`accumulate` that finds out by itself how much of a batch fits into memory at a time.

    On a GPU the largest part is tried before the first step, a tenth of the memory staying free;
    on a CPU a part may keep half of the memory that is available for its backward pass. Ranks
    take the smallest of what they found. The number is written into the run's record and an
    interrupted run goes on with it, wherever it does.

    Why: a batch size is a choice about learning, and what fits is a fact about the machine: the
    recipe can name the first and leave the second.
    Source: gradient accumulation (`accumulate`); the search is MosaicML Composer's
    `device_train_microbatch_size="auto"` done once, ahead of the steps.
    Cost: three forward and backward passes or so, on the run's clock.
    Fails: when another process takes the memory later; take `accumulate` with a smaller number.
    Runs that found different numbers differ in rounding.
    """
    plan.micro_batch = 0
