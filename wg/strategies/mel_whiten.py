from wg.plan import Front, Plan
from wg.strategies.registry import strategy


@strategy(kind="model")
def mel_whiten(plan: Plan) -> None:
    """Whiten every group of samples by the covariance that the mel tells.

    Mel -> power spectrum -> autocorrelation -> Cholesky factor of each group's covariance, which
    divides the audio in training and multiplies the flow's output in inference; its log-determinant
    is exact and both directions are parallel.

    Why: level and short-time spectrum are most of what a flow learns first, slowly, and they are
    in the conditioning in closed form.
    Source: Wiener & Khinchin; wg.flow.front. The whitening across time is Kingma & Dhariwal's
    data-dependent initialisation made local.
    Cost: an 8 x 8 factorisation a group, about a hundredth of a small model's step.
    Fails: where the mel is not that of the audio (predicted mels that are too smooth); groups
    stay correlated, which `lpc_whiten` removes too.
    Seen: -3.64 nats and a log-mel L1 of 1.78 after 120 s of audio, where `nvidia` has -1.07 and
    3.96 (three seeds, reports/members).
    """
    plan.front = Front("mel_whiten")
