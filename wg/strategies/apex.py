from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wg.errors import UserError
from wg.plan import Plan
from wg.strategies.adamw import decay_groups
from wg.strategies.registry import require, strategy

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Found:
    """What is installed by the name of apex.

    nvidia   it is NVIDIA's; otherwise a web toolkit of that name, which `pip install` brings
    amp      it has the old mixed precision, as releases up to 25.05 do
    kernels  its CUDA extensions were built
    """

    where: Path
    nvidia: bool
    amp: bool
    kernels: bool


def find_apex() -> Found | None:
    """Told from the files on disk: importing the wrong one has side effects of its own."""
    spec = find_spec("apex")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    return Found(
        folder,
        nvidia=(folder / "multi_tensor_apply").is_dir(),
        amp=(folder / "amp").is_dir(),
        kernels=find_spec("amp_C") is not None,
    )


def _missing() -> str:
    found = find_apex()
    if found is None:
        return (
            "needs NVIDIA's apex, which no package index has: build it from its source, with its "
            "C++ and CUDA extensions (`pip install apex` brings something else)."
        )
    if not found.nvidia:
        return (
            f"needs NVIDIA's apex, and {found.where} is an unrelated package of that name: "
            "pip uninstall apex, then build NVIDIA's from its source."
        )
    if not found.kernels:
        return (
            f"needs the CUDA kernels of NVIDIA's apex, and {found.where} was built without: build "
            "it again with its C++ and CUDA extensions."
        )
    return ""


@strategy(
    kind="algorithm",
    refuses={"fused_optimizer": "its optimizers are fused, by kernels of their own"},
    missing=_missing,
)
def apex(
    plan: Plan,
    optimizer: Literal["adam", "adamw", "lamb"] = "adam",
    lr: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    eps: float = 1e-8,
    amp: Literal["none", "O1", "O2"] = "none",
) -> None:
    """NVIDIA apex's fused optimizers; where the release still has it, its mixed precision too.

    As it stands it is the published Adam at 1e-4, in few kernels: the same mathematics.
    optimizer: adam (its weight decay is an L2 penalty), adamw (decoupled) or lamb (a step in
    proportion to the length of each weight that decays; its own clipping is off, that is what
    `clip` is for). Weight decay spares what `adamw` spares. amp=O1 is what the published recipe
    called fp16_run: convolutions in float16 with a loss scale, in releases up to 25.05. amp=O2
    keeps the weights of WN and of the mel's way in float16 besides, and their gradients, and
    moves fp32 masters of them: no weight is cast in a step, and small gradients round. The flow's
    1x1 convolutions and the likelihood stay in fp32 here, as with `fp16`, and every step passes
    the same guard. What is saved and scored are the masters.

    Why: one kernel updates all weights; LAMB bears large batches.
    Source: https://github.com/NVIDIA/apex; You et al. 2020 (LAMB),
    https://arxiv.org/abs/1904.00962.
    Cost: a build from source. torch's own `fused_optimizer` and `fp16` do the same as adam and O1
    without it, and are younger.
    Fails: without a GPU, without the built kernels, with the unrelated package named apex: each
    refused by name. FusedAdam counts the steps of all weights together, so that flows which wake
    later begin with smaller steps than under `adamw`. Tested on stand-ins of its classes only: no
    build of apex has run this yet. O1 does not go with `compile`, `fused_wn`,
    `recompute` and `reversible`, O2 not with `compile` and `ddp`.
    """
    require(lr > 0, f"strategy.apex.lr={lr} must be positive.")
    require(eps > 0, f"strategy.apex.eps={eps} must be positive.")
    require(0 <= beta1 < 1 and 0 <= beta2 < 1, "strategy.apex: betas must lie in [0, 1).")
    require(weight_decay >= 0, f"strategy.apex.weight_decay={weight_decay} must not be negative.")
    require(
        optimizer != "lamb" or weight_decay > 0,
        "strategy.apex.optimizer=lamb needs a positive weight_decay (0.01 is usual): apex scales "
        "the step by the length of those weights alone that decay.",
    )

    def build(parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> torch.optim.Optimizer:
        groups = decay_groups(parameters, weight_decay)
        if not all(p.is_cuda for group in groups for p in group["params"]):
            raise UserError(
                "strategy 'apex' needs a GPU, and this run is on the CPU: set device=cuda or take "
                "strategy adamw or fused_optimizer."
            )
        from apex import optimizers

        settings: dict[str, Any] = {"lr": lr, "betas": (beta1, beta2), "eps": eps}
        if optimizer == "lamb":
            return optimizers.FusedLAMB(groups, max_grad_norm=float("inf"), **settings)
        return optimizers.FusedAdam(groups, adam_w_mode=optimizer == "adamw", **settings)

    plan.optimizer = build
    if amp != "none":
        plan.precision = f"apex-{amp}"
