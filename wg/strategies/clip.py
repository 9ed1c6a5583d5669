from wg.plan import Plan
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def clip(plan: Plan, max_norm: float = 10.0) -> None:
    """Scale the whole gradient down when its norm is above `max_norm`.

    Why: one odd segment (a click, a silence) can throw a run with a large step size off its path.
    Source: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063.
    Cost: one pass over the gradients.
    Fails: too small a norm turns every step into a normalised one and slows the end.
    """
    require(max_norm > 0, f"strategy.clip.max_norm={max_norm} must be positive.")
    plan.gradient_clip = max_norm
