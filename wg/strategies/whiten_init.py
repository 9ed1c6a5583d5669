import torch

from wg.audio.store import Store
from wg.flow import WaveGlow
from wg.flow.layers import Invertible1x1Conv
from wg.flow.whitening import group_covariance, whitening_rotation
from wg.plan import Plan
from wg.strategies.registry import require, strategy


def _signal(model: WaveGlow, store: Store, i: int) -> torch.Tensor:
    """Utterance i as it reaches the first 1x1 convolution, (T,)."""
    audio = store.audio(i)
    if model.front is None:
        return audio
    n = len(audio) // model.config.n_group * model.config.n_group
    return model.front(store.mel(i)[None], audio[None, :n])[0][0]


@strategy(kind="algorithm")
def whiten_init(plan: Plan, seconds: float = 300.0) -> None:
    """Start the first 1x1 convolution at Q Cov^(-1/2) of the training audio's sample groups
    (of the excitation's, behind a front end).

    seconds: how much training audio the covariance is measured on. Q is the rotation that the
    layer would have started from.

    Why: speech at 16 kHz has a level near 0.05 and neighbouring samples correlate by 0.9, so a
    unit Gaussian fits it badly, and plain training spends most of its early steps on learning
    that scale and spectrum. Both are known in closed form: 8 x 8 numbers.
    Source: the idea of data-dependent initialisation, Kingma & Dhariwal 2018 (actnorm); here the
    full covariance instead of a diagonal.
    Cost: one pass over the audio (charged to the run as data preparation).
    Fails: on audio that is mostly digital silence; the covariance is floored at half an LSB.
    """
    require(seconds >= 1, f"strategy.whiten_init.seconds={seconds} must be at least 1.")
    n_samples = round(seconds * plan.base.sampling_rate)

    def whiten(model: WaveGlow, store: Store) -> None:
        # Flows asleep before the first computed one (grow_flows) stay the identities they are.
        first = model.convinv[model.active.index(True)]
        assert isinstance(first, Invertible1x1Conv)
        covariance = group_covariance(
            (_signal(model, store, i) for i in store.train), model.config.n_group, n_samples
        )
        with torch.no_grad():
            first.set_matrix(whitening_rotation(covariance, first.matrix))

    plan.init = whiten
