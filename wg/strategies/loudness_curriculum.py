from wg.plan import Plan
from wg.schedule import Competence
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def loudness_curriculum(plan: Plan, start: float = 0.25, until: float = 0.5) -> None:
    """Loud segments first: training segments are drawn from the loudest share of all, which grows.

    start: the share at the beginning; until: progress from which on all are drawn from, as
    without it. A segment's level is its RMS. In between, the square of the share grows in
    proportion to progress.

    Why: pauses and breaths are a good part of recorded speech, easy to fit and of little help to
    the voice; the first steps are better spent where there is most to learn.
    Source: Platanios et al. 2019, "Competence-based curriculum learning",
    https://arxiv.org/abs/1903.09848, with level for their difficulty.
    Cost: one pass over the training audio when the run starts and for every new segment length,
    some seconds for 24 hours of speech; it is on the run's clock.
    Fails: what is held back is scored too: pauses hum until they are seen. Level is not all:
    clipped or noisy recordings come first.
    Seen: 1.01 of `nvidia`'s speed to an early target, 0.85 to 1.19: nothing to be seen (three
    seeds, reports/members).
    """
    require(0 < start <= 1, f"strategy.loudness_curriculum.start={start} must lie in (0, 1].")
    require(0 < until <= 1, f"strategy.loudness_curriculum.until={until} must lie in (0, 1].")
    plan.loudness = Competence(start, until)
