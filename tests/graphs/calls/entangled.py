"""Modules that hold themselves by functions: hooks, wrapped forwards, helpers."""

from __future__ import annotations

import functools
import threading
import types
import weakref
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Kept(nn.Module):
    """Two layers whose features are kept by hooks and read at the end."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.end = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(15, 3)
        self.kept = {}

    def forward(self, x):
        self.two(torch.relu(self.one(x)))
        return self.end(torch.relu(torch.cat([self.kept["one"], self.kept["two"]], 1)))

    def hooked(self, hook):
        """With a hook, made by `hook(self, name)`, on each layer."""
        for name in ("one", "two"):
            getattr(self, name).register_forward_hook(hook(self, name))
        return self


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.end = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x):
        return self.end(torch.relu(self.two(torch.relu(self.one(x)))))


def closure(model, name):
    def hook(module, args, out):
        model.kept[name] = out

    return hook


def closure_over_the_dictionary(model, name):
    kept = model.kept
    return lambda module, args, out: kept.__setitem__(name, out)


def closure_in_a_closure(model, name):
    def put(out):
        model.kept[name] = out

    return lambda module, args, out: put(out)


def default_argument(model, name):
    return lambda module, args, out, model=model: model.kept.update({name: out})


def keyword_default(model, name):
    def hook(module, args, out, *, to=model.kept):
        to[name] = out

    return hook


def attribute_of_the_function(model, name):
    def hook(module, args, out):
        hook.model.kept[name] = out

    hook.model = model
    return hook


def _keep(model, name, module, args, out):
    model.kept[name] = out


def partial(model, name):
    return functools.partial(_keep, model, name)


def partial_by_keyword(model, name):
    return functools.partial(lambda module, args, out, *, to: to.update({name: out}), to=model.kept)


def weak(model, name):
    seen = weakref.ref(model)
    return lambda module, args, out: seen().kept.update({name: out})


def weak_proxy(model, name):
    seen = weakref.proxy(model)
    return lambda module, args, out: seen.kept.update({name: out})


class Keeper:
    """An object of its own with the model in it."""

    def __init__(self, model, name):
        self.model, self.name = model, name

    def hook(self, module, args, out):
        self.model.kept[self.name] = out

    __call__ = hook


class Slots(Keeper):
    __slots__ = ("also",)


class OnlySlots:
    __slots__ = ("model", "name")

    def __init__(self, model, name):
        self.model, self.name = model, name

    def hook(self, module, args, out):
        self.model.kept[self.name] = out


HOOKS = {
    one.__name__: one
    for one in (
        closure,
        closure_over_the_dictionary,
        closure_in_a_closure,
        default_argument,
        keyword_default,
        attribute_of_the_function,
        partial,
        partial_by_keyword,
        weak,
        weak_proxy,
    )
} | {
    "bound method": lambda model, name: Keeper(model, name).hook,
    "callable object": Keeper,
    "object with slots too": lambda model, name: Slots(model, name).hook,
    "object with slots": lambda model, name: OnlySlots(model, name).hook,
    "method in a closure": lambda model, name: (lambda keep: lambda *given: keep(*given))(
        Keeper(model, name).hook
    ),
}
"""Ways in which a hook holds the model: (model, name of a layer) → hook."""


def autocast(model):
    model.forward = torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)(model.forward)


def wrapped(model):
    forward = model.forward

    @functools.wraps(forward)
    def other(*args, **kwargs):
        return forward(*args, **kwargs)

    model.forward = other


def wrapped_twice(model):
    wrapped(model)
    autocast(model)


def wrapped_inside(model):
    wrapped(model.one)
    autocast(model.two)


def partial_of_a_reference(model):
    """As fairscale's checkpoint_wrapper does."""
    of_class, seen = type(model).forward, weakref.ref(model)
    model.forward = functools.partial(lambda f, m, *given: f(m(), *given), of_class, seen)


def bound_by_hand(model):
    model.forward = types.MethodType(lambda self, x: Plain.forward(self, x), model)


def checkpointed(model):
    forward = model.forward
    model.forward = lambda x: checkpoint(forward, x, use_reentrant=False)


def swapped_class_method(model):
    def forward(self, x):
        return model.end(torch.relu(self.two(torch.relu(model.one(x)))))

    model.forward = forward.__get__(model)


def accelerated(model):
    """As accelerate puts its hooks on."""
    hooks = pytest.importorskip("accelerate.hooks")
    for module in (model, model.one, model.end):
        hooks.add_hook_to_module(module, hooks.ModelHook())


def no_grad(model):
    model.one.forward = torch.no_grad()(model.one.forward)


WRAPPERS = {
    one.__name__: one
    for one in (
        autocast,
        wrapped,
        wrapped_twice,
        wrapped_inside,
        partial_of_a_reference,
        bound_by_hand,
        checkpointed,
        swapped_class_method,
        accelerated,
        no_grad,
    )
}
"""Ways in which forwards are wrapped on instances."""


class Registry:
    """Remembers a model where no copy looks: in its class."""

    models: ClassVar[dict[str, nn.Module]] = {}


def remembered_by_a_class(model, name):
    Registry.models["it"] = model
    return lambda module, args, out: Registry.models["it"].kept.update({name: out})


def named_globally(model, name):
    globals()["the_model"] = model
    return eval(f"lambda module, args, out: the_model.kept.update({name}=out)", globals())


class Uncopyable:
    """An object with the model in it that refuses to be copied."""

    def __init__(self, model, name):
        self.model, self.name, self.lock = model, name, threading.Lock()

    def __reduce_ex__(self, protocol):
        raise TypeError("not to be copied")

    def hook(self, module, args, out):
        self.model.kept[self.name] = out


REFUSED = {
    "remembered by a class": (remembered_by_a_class, "entangled.py"),
    "named globally": (named_globally, "the_model"),
    "not to be copied": (lambda model, name: Uncopyable(model, name).hook, "not to be copied"),
}
"""Ways that a copy cannot follow, and a word of the refusal."""
