from wg.plan import Plan
from wg.strategies.registry import gpu_missing, strategy


def _missing() -> str:
    return gpu_missing(" (mels are then computed on the CPU)")


@strategy(kind="system", missing=_missing)
def gpu_mel(plan: Plan) -> None:
    """The corpus's mels computed on the GPU, when its store is made.

    The same as data.mel_device=cuda, as a member of a recipe. The store is made once and kept for
    all runs on the same corpus.

    Why: on a day of speech the wait before the first run of all is mostly mels.
    Source: torch.stft on the GPU.
    Cost: a store of its own beside the CPU's, whose mels differ by rounding.
    Fails: to change a run's headline: mels are kept for all arms and made on the clock `init`,
    which no recipe is charged for. Without a GPU it is refused before anything is computed.
    Not measured on one.
    """
    plan.mel_device = "cuda"
