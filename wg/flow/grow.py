"""Growing a flow without changing its function.

A flow is an exact identity when its W is I and its WN's last convolution is zero. Such a flow
may be skipped (``WaveGlow.active``) or woken up at any time. A waking flow should mix channels
anew, or it would repeat the split of its neighbour; so it gets a random rotation Q, and the
next computed flow of the same stage takes W Q^-1 in exchange: the composition is unchanged,
z included. Where activation norms stand before the matrices, the waking flow takes its
successor's, which becomes the identity: W D (x + o) = (W Q^-1) Q D (x + o). The last flow of a
stage has no successor to compensate it and wakes with W = I.

The early outputs stay where the full model has them, so a donor with fewer flows keeps its
meaning stage by stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wg.errors import UserError
from wg.flow.actnorm import ActNorm
from wg.flow.config import FlowConfig
from wg.flow.layers import Invertible1x1Conv, random_rotation
from wg.flow.waveglow import WaveGlow
from wg.flow.wn import WN


def starting_flows(config: FlowConfig, n_active: int) -> list[int]:
    """Which ``n_active`` flows of the full model to start with: shared among the stages in
    proportion, the *last* of each stage, so that every later flow can be compensated."""
    stages = config.stages()
    if not len(stages) <= n_active <= config.n_flows:
        raise UserError(
            f"{n_active} flows cannot start a model of {config.n_flows}: choose between "
            f"{len(stages)} (one for each stage between early outputs) and {config.n_flows}."
        )
    counts = [1] * len(stages)
    while sum(counts) < n_active:
        # The stage that is furthest behind its share gets the next flow.
        behind = [
            len(s) / (c + 1e-9) if c < len(s) else 0.0 for s, c in zip(stages, counts, strict=True)
        ]
        counts[behind.index(max(behind))] += 1
    return [k for s, c in zip(stages, counts, strict=True) for k in s[len(s) - c :]]


def sleep(model: WaveGlow, flows: Sequence[int]) -> None:
    """Turn ``flows`` into identities and skip them."""
    for k in flows:
        conv, wn = model.convinv[k], model.WN[k]
        assert isinstance(conv, Invertible1x1Conv)
        assert isinstance(wn, WN)
        conv.set_matrix(torch.eye(conv.matrix.shape[0], device=conv.matrix.device))
        with torch.no_grad():
            wn.end.weight.zero_()
            assert wn.end.bias is not None
            wn.end.bias.zero_()
        model.active[k] = False


@torch.no_grad()
def wake(model: WaveGlow, flows: Sequence[int], generator: torch.Generator) -> None:
    """Compute sleeping ``flows`` from now on; the model's function does not change."""
    for k in flows:
        if model.active[k]:
            continue
        model.active[k] = True
        heir = _next_in_stage(model, k)
        if heir is None:
            continue
        conv, nxt = model.convinv[k], model.convinv[heir]
        assert isinstance(conv, Invertible1x1Conv)
        assert isinstance(nxt, Invertible1x1Conv)
        Q = random_rotation(conv.matrix.shape[0], generator).to(conv.matrix)
        conv.set_matrix(Q)
        nxt.set_matrix(nxt.matrix @ Q.T)
        if model.config.actnorm:
            mine, its = model.actnorm[k], model.actnorm[heir]
            assert isinstance(its, ActNorm)
            mine.load_state_dict(its.state_dict())
            its.offset.zero_()
            its.log_scale.zero_()


def _next_in_stage(model: WaveGlow, k: int) -> int | None:
    """The next computed flow that sees the same channels, if any."""
    for stage in model.config.stages():
        if k in stage:
            return next((j for j in stage if j > k and model.active[j]), None)
    raise AssertionError(k)


def load_donor(
    model: WaveGlow, donor: FlowConfig, weights: Mapping[str, Tensor], generator: torch.Generator
) -> list[int]:
    """Start ``model`` from a donor of equal widths and at most as many flows per stage: the
    donor's flows fill the end of each stage, the rest wake as identities, and the function is
    the donor's. Returns the flows that were filled. Raises :class:`UserError` if it cannot be.
    """
    target = model.config
    for name, value in vars(target).items():
        # What is done to generated audio is no part of what a donor has learned.
        free = ("n_flows", "n_early_every", "consistency")
        if name not in free and getattr(donor, name) != value:
            raise UserError(
                f"the donor's {name} is {getattr(donor, name)} and this model's is {value}; a warm "
                "start changes only the number of flows."
            )
    ours, theirs = target.stages(), donor.stages()
    if len(theirs) > len(ours) or any(len(t) > len(o) for o, t in zip(ours, theirs, strict=False)):
        raise UserError(
            f"the donor has {[len(s) for s in theirs]} flows between early outputs and this model "
            f"{[len(s) for s in ours]}; a donor must have at most as many in every stage."
        )
    places = {
        k: o[len(o) - len(t) + i]
        for o, t in zip(ours, theirs, strict=False)
        for i, k in enumerate(t)
    }
    if target.swap_odd_halves and any((k - place) % 2 for k, place in places.items()):
        raise UserError(
            "the donor's couplings take turns in which half they change (glow_old), and its flows "
            "would come to stand where the turn is the other's: give the model as many flows as "
            "the donor has, or an even number more in every stage."
        )
    filled = sorted(places.values())
    asleep = [k for k in range(target.n_flows) if k not in filled]
    sleep(model, asleep)
    renamed = {_place(name, places): w for name, w in weights.items()}
    missing = [
        n
        for n in model.state_dict()
        if n not in renamed and _flow_of(n) in (None, *filled) and not n.startswith("consistency.")
    ]
    if missing:
        raise UserError(f"the donor's weights lack {missing[0]} ({len(missing)} missing in all).")
    model.load_state_dict(renamed, strict=False)
    # From the last to the first: a flow's heir must be awake before it is compensated.
    wake(model, asleep[::-1], generator)
    return filled


_OF_FLOWS = ("WN", "convinv", "actnorm")


def _flow_of(name: str) -> int | None:
    head, _, rest = name.partition(".")
    return int(rest.split(".", 1)[0]) if head in _OF_FLOWS else None


def _place(name: str, places: Mapping[int, int]) -> str:
    k = _flow_of(name)
    if k is None:
        return name
    head, _, tail = name.split(".", 2)
    return f"{head}.{places[k]}.{tail}"
