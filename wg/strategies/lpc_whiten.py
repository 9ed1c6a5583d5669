from wg.plan import Front, Plan
from wg.strategies.registry import require, strategy


@strategy(kind="model")
def lpc_whiten(plan: Plan, order: int = 128) -> None:
    """Let the flow model the excitation of a linear predictor that the mel tells.

    Mel -> spectral envelope -> autocorrelation -> Levinson-Durbin: a filter for every 32 samples,
    whose prediction error over its gain is what the flow sees. The Jacobian is triangular, its
    log-determinant exact. An order above a pitch period's resolution catches harmonics that the
    mel resolves, beside the envelope (reports/prediction_order compares 32, 64 and 128).

    Why: second-order structure, within and across groups, is known before the first step; the
    flow is left with what the mel does not say.
    Source: source-filter models: Levinson 1947; Valin & Skoglund 2019 (LPCNet,
    https://arxiv.org/abs/1810.11846) with the predictor computed from the mel as here.
    Cost: filters in fp64 in every step (a few percent of a small model's). The inverse is a
    recursion over steps of 32 samples: 500 small products for a second at 16 kHz, in batch.
    A GPU makes all filters and matrices at once and launches those products one after the other,
    microseconds each, which the clips of a batch share. An export holds the flow alone: the
    excitation comes back to the host and the filter runs there, in fp64.
    Fails: where the mel is not that of the audio: a filter's resonances are heard.
    """
    require(1 <= order <= 512, f"strategy.lpc_whiten.order={order} must lie between 1 and 512.")
    plan.front = Front("lpc_whiten", order)
