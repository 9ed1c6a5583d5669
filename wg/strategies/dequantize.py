from wg.plan import Plan
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def dequantize(plan: Plan, lsb: float = 1.0) -> None:
    """Add uniform noise to the training audio: as wide as the steps of 16 bits it was stored in.

    lsb: width of the noise in such steps (1/32768 of full scale); 1 is U(-1/2, 1/2) of a step,
    drawn anew for every segment and the same in every arm of a seed.

    Why: 16-bit audio is points on a grid, where a density has no bound. Digital silence is the
    worst of them: on exact zeros the likelihood grows with log_s until exp overflows and 0 times
    infinity is NaN. With noise as wide as a step, the density's mean log-likelihood is a lower
    bound of the discrete one's, and so has a maximum.
    Source: Uria, Murray & Larochelle 2013 (RNADE), https://arxiv.org/abs/1306.0186; the bound:
    Theis, van den Oord & Bethge 2016, "A note on the evaluation of generative models",
    https://arxiv.org/abs/1511.01844.
    Cost: one random number a sample; a noise floor near -101 dB of full scale.
    Fails: scores are of audio without noise, so nats per sample no longer gain from exact
    zeros: on corpora that hold them, compare other metrics too.
    """
    require(0 < lsb <= 4, f"strategy.dequantize.lsb={lsb} must be above 0 and at most 4.")
    plan.dequantize = lsb
