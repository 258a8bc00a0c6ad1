"""Modules as functions of their parameters: functional_call, stack_module_state."""

from __future__ import annotations

from ..errors import ArgumentError
from ..graph.op import PUBLIC
from ..tensor import Tensor
from .arguments import as_tensor

__all__ = ["functional_call", "stack_module_state"]


def functional_call(
    module,
    parameter_and_buffer_dicts,
    args=None,
    kwargs=None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
):
    """Call `module` with other tensors in the place of its parameters and buffers.

    The module is not changed.

    Parameters
    ----------
    module : nn.Module
    parameter_and_buffer_dicts : dict of str to Tensor, or a sequence of such dicts
        By dotted name, as ``dict(module.named_parameters())`` has them; what is missing is the
        module's own.
    args : tuple or Any, optional
        The arguments of the call; anything but a tuple is the one argument.
    kwargs : dict, optional
    tie_weights : bool
        A tensor given for one name of a parameter that has several is used for all of them.
    strict : bool
        Raise if a parameter or buffer is missing.

    Returns
    -------
    Any
        What ``module(*args, **kwargs)`` returns.

    Raises
    ------
    ArgumentError
        For names that the module has not, names given twice, tied names with different tensors,
        and with `strict` for missing ones.

    Examples
    --------
    >>> import flatgrad as fg
    >>> layer = fg.nn.Linear(2, 1)
    >>> p = {"weight": fg.tensor([[1.0, 2.0]]), "bias": fg.zeros(1)}
    >>> fg.func.functional_call(layer, p, fg.tensor([3.0, 4.0]))
    tensor([11.])
    >>> loss = lambda p, x: fg.func.functional_call(layer, p, x).sum()
    >>> fg.func.grad(loss)(p, fg.tensor([3.0, 4.0]))
    {'bias': tensor([1.]), 'weight': tensor([[3., 4.]])}
    """
    values = _merged(parameter_and_buffer_dicts)
    own = dict(module.named_parameters(remove_duplicate=False))
    own.update(module.named_buffers(remove_duplicate=False))
    unknown = [k for k in values if k not in own]
    if unknown:
        raise ArgumentError(
            "functional_call: Unexpected key(s): " + ", ".join(map(repr, unknown)) + "; the module "
            f"{type(module).__name__} has " + (", ".join(map(repr, own)) or "no parameters")
        )
    if tie_weights:
        _tie(values, own)
    missing = [k for k in own if k not in values]
    if strict and missing:
        raise ArgumentError(
            "functional_call: Missing key(s): " + ", ".join(map(repr, missing)) + "; give them, or "
            "leave strict=True out"
        )
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    return module._with_tensors(values)(*args, **(kwargs or {}))


def _merged(dicts) -> dict:
    """One dict of the given ones."""
    if hasattr(dicts, "keys"):
        dicts = (dicts,)
    if not isinstance(dicts, (list, tuple)) or not all(hasattr(d, "keys") for d in dicts):
        raise ArgumentError(
            "functional_call: Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of "
            f"dicts, got {type(dicts).__name__}"
        )
    values: dict = {}
    for each in dicts:
        for name in each:
            if name in values:
                raise ArgumentError(
                    f"functional_call: {name!r} appeared in multiple dictionaries; behavior of "
                    "functional call is ambiguous. Give each name once"
                )
            x = each[name]
            values[name] = (
                x if x is None else as_tensor("functional_call", x, f"[{name!r}]", "values")
            )
    return values


def _tie(values: dict, own: dict) -> None:
    """Give tied names the tensor that one of them got."""
    groups: dict[int, list[str]] = {}
    for name, tensor in own.items():
        groups.setdefault(id(tensor), []).append(name)
    for names in groups.values():
        given = [n for n in names if n in values]
        if len({id(values[n]) for n in given}) > 1:
            raise ArgumentError(
                f"functional_call: got multiple values for keys {given}, which are tied. Give one "
                "of them, or tie_weights=False"
            )
        if given:
            values.update(dict.fromkeys(names, values[given[0]]))


def stack_module_state(models) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and buffers of several modules of one class, each stacked along a first dimension.

    Parameters
    ----------
    models : list of nn.Module

    Returns
    -------
    (parameters, buffers)
        Dicts by dotted name; the parameters are new leaves that require grad where the models' do.

    Raises
    ------
    ArgumentError
        For an empty list, modules of different classes or modes, or parameters of which only some
        require grad.

    Examples
    --------
    >>> import flatgrad as fg
    >>> parameters, buffers = fg.func.stack_module_state([fg.nn.Linear(2, 3) for _ in range(5)])
    >>> parameters["weight"].shape
    flatgrad.Size([5, 3, 2])
    """
    models = list(models)
    if not models:
        raise ArgumentError("stack_module_state: Expected at least one model, got 0")
    first = models[0]
    if any(type(m) is not type(first) for m in models):
        raise ArgumentError(
            "stack_module_state: Expected models to all be of the same class, got "
            + ", ".join(sorted({type(m).__name__ for m in models}))
        )
    if any(m.training is not first.training for m in models):
        raise ArgumentError(
            "stack_module_state: Expected all models to have the same training/eval mode; call "
            "train() or eval() on all of them"
        )
    parameters = {
        name: _stacked(name, [dict(m.named_parameters())[name] for m in models])
        for name, _ in first.named_parameters()
    }
    buffers = {
        name: _stacked(name, [dict(m.named_buffers())[name] for m in models])
        for name, _ in first.named_buffers()
    }
    return parameters, buffers


def _stacked(name: str, tensors: list[Tensor]) -> Tensor:
    flags = {t.requires_grad for t in tensors}
    if len(flags) > 1:
        raise ArgumentError(
            f"stack_module_state: Expected parameters from each model to have the same "
            f"requires_grad, but {name!r} has both"
        )
    stacked = PUBLIC["stack"].function([t.detach() for t in tensors])
    return stacked.requires_grad_() if flags.pop() else stacked
