from wg.plan import Plan
from wg.schedule import staircase
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def curriculum(
    plan: Plan,
    segment_lengths: tuple[int, ...] = (4000, 8000, 16000),
    until: tuple[float, ...] | None = None,
    hold_samples: bool = True,
) -> None:
    """Short segments first, long ones later: segment length as a staircase of progress.

    segment_lengths: samples, one value a stage; until: progress at which each stage but the last
    ends (equal shares when null); hold_samples: keep the samples of a step constant by batching
    more of the short segments, which gives early steps more variety and the same throughput.
    With hold_samples false a step sees less audio, so there are more steps in the same audio.

    Why: early training learns level and spectrum, for which short context serves.
    Source: Bengio et al. 2009 (curriculum learning); the 2018 WaveGlow recipe is the last stage.
    Cost: none; a staircase of shapes is compiled once each.
    Fails: segments shorter than WN's receptive field teach edges.
    """
    require(
        len(segment_lengths) > 0,
        "strategy.curriculum.segment_lengths=[] names no length: give at least one.",
    )
    n = plan.base.segment_length * plan.base.batch_size
    for length in segment_lengths:
        require(
            length >= 1024, f"strategy.curriculum.segment_lengths: {length} is under 1,024 samples."
        )
        require(
            not hold_samples or n % length == 0,
            f"strategy.curriculum.segment_lengths: {length} does not divide the {n} samples of a "
            "step; choose divisors or set hold_samples=false.",
        )
    plan.segment_length = staircase(segment_lengths, until)
    if hold_samples:
        plan.batch_size = staircase([n // length for length in segment_lengths], until)
