from wg.plan import Plan
from wg.schedule import staircase
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def batch_ramp(
    plan: Plan, batch_sizes: tuple[int, ...] = (1, 2, 4), until: tuple[float, ...] | None = None
) -> None:
    """Small batches first, large ones later: segments in a step as a staircase of progress.

    batch_sizes: segments, one value a stage, all ranks together; until: progress at which each
    stage but the last ends (equal shares of the audio when null).

    Why: while the gradient is large its noise hardly matters, and small batches make more steps of
    the same audio; later averaging does what a smaller step size would.
    Source: Smith et al. 2018, "Don't decay the learning rate, increase the batch size",
    https://arxiv.org/abs/1711.00489.
    Cost: none; a staircase of shapes is compiled once each.
    Fails: at equal audio a late large batch makes fewer steps; with `lr_schedule` both lower the
    noise, and one of the two may be enough.
    Seen: 0.83 of `nvidia`'s speed to an early target, 0.62 to 1.10 (three seeds, reports/members).
    """
    require(
        len(batch_sizes) > 0 and min(batch_sizes) >= 1,
        f"strategy.batch_ramp.batch_sizes={list(batch_sizes)} must name at least one "
        "size, of at least 1 segment each.",
    )
    plan.batch_size = staircase(batch_sizes, until)
