"""``Optimizer``: parameter groups, state, and the update of a whole group as one recorded call.

The update rule of an optimiser is a function of tensors. It is traced once for the shapes of a
group into a sub-graph; a step then evaluates one ``CALL`` of it with all that is pending behind it,
so that forward pass, backward pass and update of a plain training loop are one program. Numbers
that may change between steps (learning rate, bias corrections) are inputs of that program.
"""

from __future__ import annotations

import copy
from collections import defaultdict

import numpy as np

from ..autograd.modes import enable_grad, no_grad
from ..errors import ArgumentError, GradientError
from ..graph.dtypes import float32
from ..graph.node import SHARED, leaf
from ..tensor import Tensor, bind, late, node_of, snapshot
from ..transform.call import evaluated_call
from ..transform.trace import trace
from ..writing import show_array


class _Required:
    """Stands for a hyperparameter that has no default."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


def clear_grads(parameters, set_to_none: bool) -> None:
    """Forget the gradients of `parameters`, or make them zero."""
    for p in parameters:
        if p.grad is None:
            continue
        p.grad = None if set_to_none else p.grad.new_zeros(p.shape)


def check_number(owner: str, name: str, value, low=0.0, high=None) -> None:
    """Raise an ArgumentError for a hyperparameter outside [low, high)."""
    value = float(value)
    if not value >= low or (high is not None and not value < high):
        wanted = f"at least {low}" if high is None else f"in [{low}, {high})"
        raise ArgumentError(f"{owner}: Invalid {name} value: {value}; it must be {wanted}")


class Optimizer:
    """Base of the optimisers.

    A subclass defines ``_advance(group, p)``, which sets up the state of one parameter and returns
    ``(form, count)``: a hashable that picks the form of the rule, and the number of this step;
    ``_numbers(group, form, count)``, the Python floats of the rule; ``_states(form)``, the names of
    its state tensors; and ``_rule(form, numbers, param, grad, *states)``, which is given the numbers
    as 0-d tensors and returns the new parameter and states.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of dict
        Parameters, or groups ``{"params": [...], "lr": ...}`` with settings of their own.
    defaults : dict
        Settings for groups that do not give them.

    Raises
    ------
    ArgumentError
        If there are no parameters, one appears twice, or something is no tensor.
    GradientError
        If a parameter was computed from others.
    """

    def __init__(self, params, defaults: dict):
        self.defaults = defaults
        self.state: defaultdict = defaultdict(dict)
        self.param_groups: list[dict] = []
        self._graphs: dict = {}
        if isinstance(params, Tensor):
            raise ArgumentError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                "but got a Tensor; wrap it in a list"
            )
        groups = list(params)
        if not groups:
            raise ArgumentError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict) -> None:
        """Add parameters with settings of their own, for instance while fine-tuning.

        Raises
        ------
        ArgumentError, GradientError
            As for the constructor.
        """
        if not isinstance(param_group, dict):
            raise ArgumentError(f"param_group must be a dict, but got {type(param_group).__name__}")
        group = dict(param_group)
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        if params and isinstance(params[0], tuple):
            group["param_names"] = [name for name, _ in params]
            params = [p for _, p in params]
        group["params"] = params
        taken = {p for g in self.param_groups for p in g["params"]}
        for p in params:
            _check_param(p, taken)
            taken.add(p)
        for name, value in self.defaults.items():
            if value is required and name not in group:
                raise ArgumentError(
                    "parameter group didn't specify a value of required optimization parameter "
                    f"{name}"
                )
            group.setdefault(name, value)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or make them zero)."""
        for group in self.param_groups:
            clear_grads(group["params"], set_to_none)

    # -- the step ---------------------------------------------------------------------------------

    def step(self, closure=None):
        """Update the parameters that have a gradient.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and calls backward(); what it returns is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            for group in self.param_groups:
                self._update_group(group)
        return loss

    def _update_group(self, group: dict) -> None:
        """Parameters of one form, dtype and age are updated by one call."""
        batches: dict = {}
        for p in group["params"]:
            if p._grad is not None:
                form, count = self._advance(group, p)
                batches.setdefault((form, count, p._node.dtype), []).append(p)
        for (form, count, dtype), params in batches.items():
            self._update(group, form, count, dtype, params)

    def _update(self, group: dict, form, count: int, dtype, params: list) -> None:
        """Evaluate one call of the rule for all of `params`, and bind them and their states to it."""
        numbers = self._numbers(group, form, count)
        names = self._states(form)
        shown: list[Tensor] = []
        inputs = [leaf(np.array(numbers, dtype.np), dtype)]
        for p in params:
            state = self.state[p]
            own = [p, *[state[name] for name in names]]
            shown += own
            inputs.append(node_of(p._grad))
            inputs += [node_of(t) for t in own]
        key = (form, dtype, tuple([p._node.shape for p in params]))
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._graphs[key] = self._trace(form, len(numbers), len(names), inputs)
        values = evaluated_call(graph, tuple([snapshot_of(n) for n in inputs]))
        for t, value in zip(shown, values, strict=True):
            show_array(t, value)
        if "step" in self.state[params[0]]:
            age = leaf(np.asarray(count, np.float32), float32)
            for p in params:
                bind(self.state[p]["step"], age)

    def _trace(self, form, count: int, states: int, inputs: list):
        width = 2 + states

        def update(vector, *rest):
            numbers = [vector[k] for k in range(count)]
            results: list[Tensor] = []
            for k in range(0, len(rest), width):
                g, p, *held = rest[k : k + width]
                results += self._rule(form, numbers, p, g, *held)
            return tuple(results)

        graph, captured = trace(update, inputs, name=type(self).__name__.lower())
        assert not captured, "an update rule used a tensor from outside: please report"
        # A parameter's gradient comes in before it and its states, the numbers before all.
        many = range(0, len(graph.outputs), width - 1)
        graph.updates = tuple(
            [(k + j, 2 + k // (width - 1) * width + j) for k in many for j in range(width - 1)]
        )
        return graph

    def _age(self, p: Tensor) -> int:
        """Steps that have updated `p`, this one included."""
        return int(node_of(self.state[p]["step"]).value) + 1

    # -- saving and loading -----------------------------------------------------------------------

    def state_dict(self) -> dict:
        """``{"state": {position: {...}}, "param_groups": [...]}`` with positions for parameters."""
        position: dict = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                position.setdefault(p, len(position))
            packed = {k: v for k, v in group.items() if k != "params"}
            packed["params"] = [position[p] for p in group["params"]]
            groups.append(packed)
        state = {position.get(p, p): values for p, values in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue from a :meth:`state_dict`; its tensors are copied.

        Raises
        ------
        ArgumentError
            If groups, their sizes or the shapes of states do not match; nothing is loaded then.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ArgumentError(
                "load_state_dict: loaded state dict has a different number of parameter groups: "
                f"{len(saved)}, the optimizer has {len(self.param_groups)}"
            )
        for old, new in zip(self.param_groups, saved, strict=True):
            if len(old["params"]) != len(new["params"]):
                raise ArgumentError(
                    "load_state_dict: loaded state dict contains a parameter group that doesn't "
                    "match the size of optimizer's group: "
                    f"{len(new['params'])} != {len(old['params'])}"
                )
        owner = {}
        for old, new in zip(self.param_groups, saved, strict=True):
            owner.update(zip(new["params"], old["params"], strict=True))
        for position, values in state_dict["state"].items():
            if position in owner:
                _check_state(position, values, owner[position])
        self.state = defaultdict(dict)
        for position, values in state_dict["state"].items():
            p = owner.get(position, position)
            self.state[p] = {name: _loaded(name, v, p) for name, v in values.items()}
        for old, new in zip(self.param_groups, saved, strict=True):
            settings = copy.deepcopy({k: v for k, v in new.items() if k != "params"})
            old.update(settings)

    def __getstate__(self) -> dict:
        kept = ("defaults", "state", "param_groups")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._graphs = {}

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for k, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {k}")
            lines += [f"    {n}: {group[n]}" for n in sorted(group) if n != "params"]
        return "\n".join([*lines, ")"])


def snapshot_of(node):
    """`node`, or the present values of memory that the user's array shares."""
    return snapshot(node) if node.mark & SHARED else node


def _check_param(p, taken: set) -> None:
    if not isinstance(p, Tensor):
        raise ArgumentError(
            f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}"
        )
    if not p.is_leaf:
        raise GradientError(
            f"can't optimize a non-leaf Tensor: it was computed by {node_of(p).op.name}; "
            "give the leaf it comes from, or detach it"
        )
    if p in taken:
        raise ArgumentError("some parameters appear in more than one parameter group, or twice")


# States that have an element for each of the parameter's. Those of other optimisers may have any shape.
_SHAPED = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"}


def _check_state(position, values: dict, p: Tensor) -> None:
    for name in sorted(_SHAPED & values.keys()):
        value = values[name]
        if isinstance(value, Tensor) and value.shape != p.shape:
            raise ArgumentError(
                f"load_state_dict: size mismatch for {name} of parameter {position}: its shape in the state "
                f"dict is {value.shape}, and the parameter has {p.shape}; it belongs to another model"
            )


def _loaded(name: str, value, p: Tensor):
    """A copy of a state's value; floating-point tensors take the parameter's dtype, but counts."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    value = value.detach().clone()
    if name != "step" and p.dtype.is_floating_point and value.dtype.is_floating_point:
        value = value.to(p.dtype)
    late.evaluate([node_of(value)])
    return value
