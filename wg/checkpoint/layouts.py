"""The layouts that WaveGlow checkpoints have had: found in a file, told apart by their keys, and
translated to wg's, which is that of NVIDIA/waveglow today. Tensors in, tensors out; exact.

    prefixes            ``module.`` of DataParallel, ``model.``, ``waveglow.``, ...
    weight norm         weight_g and weight_v; parametrizations.weight.original0 and 1; or folded
                        into a plain weight, which stays folded
    conditioning        cond_layer; or cond_layers.i (NVIDIA before 2019, DeepLearningExamples)
    residual and skip   res_skip_layers.i; or res_layers.i and skip_layers.i (NVIDIA, 2018)

Joining layers is exact because a weight norm is of each output channel alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wg.checkpoint.picklenames import Module
from wg.errors import UserError

Weights = dict[str, Tensor]

# Where a checkpoint's dictionary keeps its model, the likeliest first.
_PLACES = ("state_dict", "model_state_dict", "model", "waveglow", "generator", "weights")
_MARKER = re.compile(r"(.*\.)?upsample\.weight")  # every WaveGlow has it, whatever its age
# Computed from the weights, or belonging to the loss and the denoiser: nothing is lost.
_DERIVED = re.compile(
    r"(.*\.)?(W_inverse|num_batches_tracked)|(WN_rev|convinv_rev|stft|denoiser)\..*"
)
_COND = re.compile(r"(WN\.[0-9]+\.cond_layer)s\.([0-9]{1,4})\.(.+)")
_RES_OR_SKIP = re.compile(r"(WN\.[0-9]+)\.(res|skip)_layers\.([0-9]{1,4}\..+)")
_UNUSED_SKIP = re.compile(r"WN\.[0-9]+\.skip_layers\..+")
_MOST_MODULES = 100_000
_LARGEST = 2**31  # of a setting


@dataclass(frozen=True)
class Found:
    """A model's tensors under the names that the file gives them.

    class_name: of a pickled module, such as ``glow_old.WaveGlow``, else empty.
    attributes: the other plain values of its modules, such as ``upsample.stride``.
    """

    weights: Weights
    class_name: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


def find_state(tree: Any, source: str) -> Found:
    """The WaveGlow in what a file held: a pickled module, a state dict, or a dictionary with one
    of them. Raises :class:`UserError` naming what the file holds instead."""
    for candidate in _candidates(tree, depth=3):
        found = _state_of_module(candidate, source) if isinstance(candidate, Module) else None
        if isinstance(candidate, dict):
            found = Found({k: v for k, v in candidate.items() if _is_weight(k, v)})
        if found is not None and any(map(_MARKER.fullmatch, found.weights)):
            return found
    if isinstance(tree, dict):
        held = f"a dictionary of {shown(k for k in tree if isinstance(k, str))}"
    else:
        held = f"a {tree.path if isinstance(tree, Module) else type(tree).__name__}"
    raise UserError(
        f"{source} holds no WaveGlow: it is {held}, and neither there nor under "
        f"{', '.join(_PLACES)} is anything named upsample.weight."
    )


def _candidates(tree: Any, depth: int) -> Iterable[Any]:
    if isinstance(tree, dict) and depth:
        for place in _PLACES:
            if place in tree:
                yield from _candidates(tree[place], depth - 1)
    yield tree


def _is_weight(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _state_of_module(module: Module, source: str) -> Found:
    """The state dict that ``module.state_dict()`` would give, and the modules' plain values."""
    weights: Weights = {}
    attributes: dict[str, Any] = {}
    class_name = module.path
    waiting, seen = [("", module)], 0
    while waiting:
        prefix, this = waiting.pop()
        seen += 1
        if seen > _MOST_MODULES or prefix.count(".") > 16:
            raise UserError(f"{source} nests its modules without end: it is damaged.")
        for group in ("_parameters", "_buffers"):
            held = _dict(this.state.get(group))
            weights.update({f"{prefix}{k}": v for k, v in held.items() if _is_weight(k, v)})
        for name, value in this.state.items():
            numbers = value if isinstance(value, tuple) else (value,)
            if all(type(n) is int and abs(n) < _LARGEST for n in numbers):
                attributes[prefix + name] = value
        children = _dict(this.state.get("_modules"))
        if "upsample" in children:  # the WaveGlow itself, inside of any wrapper
            class_name = this.path
        for name, child in children.items():
            if isinstance(child, Module):
                waiting.append((f"{prefix}{name}.", child))
    return Found(weights, class_name, attributes)


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


# -- translation to wg's names ------------------------------------------------------------


@dataclass(frozen=True)
class Translated:
    """``weights`` in fp32 under wg's names; ``prefix`` that was stripped; ``words`` that describe
    the layout and what was left out."""

    weights: Weights
    prefix: str
    words: list[str]


def translate(weights: Mapping[str, Tensor], source: str) -> Translated:
    """Any layout -> wg's. What it does not know keeps its name, for the caller to compare.

    Raises :class:`UserError` for two models in one file, for parts of a layer that are missing,
    and for parts that do not fit together.
    """
    prefixes = sorted(m[1] or "" for m in map(_MARKER.fullmatch, weights) if m)
    if len(prefixes) != 1:
        raise UserError(
            f"{source} holds {len(prefixes)} WaveGlows, under the prefixes "
            f"{shown(map(repr, prefixes))}; save the one that you mean alone."
        )
    (prefix,) = prefixes
    _check_repeats(weights, source)
    named: Weights = {}
    for key, value in weights.items():
        name = _renamed(key.removeprefix(prefix))
        if not key.startswith(prefix) or _DERIVED.fullmatch(name):
            continue
        if name in named:
            raise UserError(f"{source} holds {shown([name])} twice, under two spellings.")
        named[name] = value
    words = ([f"prefix {prefix!a}"] if prefix else []) + _describe(weights, named)
    outside = sum(not k.startswith(prefix) for k in weights)
    words += [f"without {outside} tensors outside of the prefix"] if outside else []
    return Translated(_fp32(_join_res_skip(_join_cond(named, source), source)), prefix, words)


def _check_repeats(weights: Mapping[str, Tensor], source: str) -> None:
    """Tensors may share memory (tied weights), but a small file cannot become a huge model."""
    storages = {s.data_ptr(): s.nbytes() for s in (v.untyped_storage() for v in weights.values())}
    if sum(v.nbytes for v in weights.values()) > 4 * sum(storages.values()):
        raise UserError(f"{source} claims the same numbers for many tensors: it is damaged.")


def _renamed(key: str) -> str:
    """Without wrappers inside the name, and with the older spelling of weight norm."""
    key = ".".join(part for part in key.split(".") if part != "module")
    key = key.replace("parametrizations.weight.original0", "weight_g")
    return key.replace("parametrizations.weight.original1", "weight_v")


def _describe(raw: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> list[str]:
    """The layout in words, for people."""
    keys = "\n".join(named)
    words = ["cond_layers" if ".cond_layers." in keys else "cond_layer"]
    if ".res_skip_layers." not in keys:
        words.append("res_layers and skip_layers")
    else:
        words.append("res_skip_layers" + " beside unused skip_layers" * (".skip_layers." in keys))
    if "weight_g" not in keys:
        words.append("weight norm folded")
    elif any(".parametrizations." in k for k in raw):
        words.append("weight norm as a parametrization")
    else:
        words.append("weight norm")
    dtypes = {str(v.dtype).removeprefix("torch.") for v in named.values() if v.is_floating_point()}
    return words + sorted(dtypes - {"float32"})


def _join_cond(weights: Weights, source: str) -> Weights:
    """cond_layers.i, in their order -> cond_layer."""
    joined = {k: v for k, v in weights.items() if not _COND.fullmatch(k)}
    layers: dict[tuple[str, str], dict[int, Tensor]] = {}
    for key, value in weights.items():
        if match := _COND.fullmatch(key):
            layers.setdefault((match[1], match[3]), {})[int(match[2])] = value
    for (base, tail), parts in layers.items():
        for i in range(len(parts)):
            if i not in parts:
                raise UserError(f"{source} lacks {shown([f'{base}s.{i}.{tail}'])}.")
        named = {f"{base}s.{i}.{tail}": parts[i] for i in range(len(parts))}
        joined[f"{base}.{tail}"] = _concatenate(named, source)
    return joined


def _join_res_skip(weights: Weights, source: str) -> Weights:
    """res_layers.i above skip_layers.i -> res_skip_layers.i; the last layer is skip only."""
    joined = {k: v for k, v in weights.items() if not _RES_OR_SKIP.fullmatch(k)}
    # NVIDIA's class of 13 November 2018 has both, and computes with res_skip_layers.
    if any(".res_skip_layers." in k for k in joined):
        return {k: v for k, v in weights.items() if not _UNUSED_SKIP.fullmatch(k)}
    for key, value in weights.items():
        match = _RES_OR_SKIP.fullmatch(key)
        if match is None:
            continue
        res, skip = (f"{match[1]}.{kind}_layers.{match[3]}" for kind in ("res", "skip"))
        if skip not in weights:
            raise UserError(f"{source} lacks {shown([skip])}, which goes with {shown([res])}.")
        if key == skip:
            parts = {res: weights[res], skip: value} if res in weights else {skip: value}
            joined[f"{match[1]}.res_skip_layers.{match[3]}"] = _concatenate(parts, source)
    return joined


def _concatenate(parts: Mapping[str, Tensor], source: str) -> Tensor:
    """Along the output channels."""
    (first, whole), *_ = parts.items()
    for name, part in parts.items():
        if part.dim() == 0 or part.shape[1:] != whole.shape[1:]:
            raise UserError(
                f"{source} does not fit together: {shown([first])} is {tuple(whole.shape)} and "
                f"{shown([name])} is {tuple(part.shape)}; only their first sizes may differ."
            )
    return torch.cat(list(parts.values()))


def _fp32(weights: Mapping[str, Tensor]) -> Weights:
    """Ordinary tensors of their own memory; half precisions (and fp64) as fp32."""
    return {k: v.float().clone(memory_format=torch.contiguous_format) for k, v in weights.items()}


def shown(names: Iterable[str], most: int = 5) -> str:
    """The first few names, safe to print."""
    listed = list(names)
    text = ", ".join(ascii(n)[1:-1][:80] for n in listed[:most])
    return text + (f" and {len(listed) - most} more" if len(listed) > most else "")


# -- the way back, and weight norm --------------------------------------------------------


def per_layer_cond(weights: Mapping[str, Tensor], n_layers: int) -> Weights:
    """wg's layout -> that of DeepLearningExamples and of NVIDIA's glow_old.py: cond_layer cut
    into cond_layers.i."""
    cut: Weights = {}
    for key, value in weights.items():
        if ".cond_layer." in key:
            for i, part in enumerate(value.chunk(n_layers)):
                cut[key.replace(".cond_layer.", f".cond_layers.{i}.")] = part.clone()
        else:
            cut[key] = value
    return cut


def is_folded(weights: Mapping[str, Tensor]) -> bool:
    """Whether some layer that had a weight norm has a plain weight instead."""
    return any(_normed(k) for k in weights)


def _normed(key: str) -> bool:
    """Whether ``key`` is the plain weight of a layer that trains with a weight norm."""
    return key.startswith("WN.") and key.endswith(".weight") and ".end." not in key


def unfold(weights: Mapping[str, Tensor]) -> Weights:
    """Folded weights -> weight norm's g (the norm of each output channel) and v (the weight), to
    train on: the same function up to the last bit of fp32.

    A channel of zeros has no direction: it gets g = 0 and the direction (1, ..., 1) / sqrt(n), so
    that its output stays exactly zero (0 / 0 would be NaN) and its g still has a gradient.
    """
    unfolded: Weights = {}
    for key, value in weights.items():
        if _normed(key):
            norm = value.flatten(1).norm(dim=1).view(-1, *[1] * (value.dim() - 1))
            n = value[0].numel()
            unfolded[f"{key}_g"] = norm
            unfolded[f"{key}_v"] = torch.where(norm == 0, n**-0.5, value)
        else:
            unfolded[key] = value
    return unfolded
