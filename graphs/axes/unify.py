"""Unification of dimensions: which positions of which tensors must be cut together.

Every parameter dimension starts as a fresh axis variable. Operators state that two dimensions are
the same, and an axis is refined when it meets something finer: `h` met by `kv × g` becomes that
product, `c` met by `a | b` is split. What cannot be reconciled is frozen, with the reason, so a
wrong guess costs freedom and never correctness.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphs.axes.dims import Atom, Dim, Fixed, Prod, Sum, atoms, concat, product, size

_KIND_ORDER = (
    "unit",
    "feature",
    "channel",
    "rank",
    "group",
    "vocabulary",
    "head feature",
    "head",
    "expert",
)


class Unifier:
    """Union–find over axis variables, where a variable may be bound to a whole expression.

    Attributes:
        sizes: variable → number of units.
        frozen: variable → reason, for every variable that must be left alone.
        kinds: variable → what its units are.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.frozen: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self._bound: dict[str, Dim] = {}

    def fresh(self, n: int, kind: str = "unit") -> Dim:
        """A new axis variable of `n` units."""
        name = f"v{len(self.sizes)}"
        self.sizes[name], self.kinds[name] = n, kind
        return Atom(name)

    def size(self, dim: Dim) -> int:
        """Number of positions along `dim`."""
        return size(dim, self.sizes)

    def resolve(self, dim: Dim) -> Dim:
        """`dim` in normal form over unbound variables."""
        if isinstance(dim, Atom):
            if dim.axis not in self._bound:
                return dim
            self._bound[dim.axis] = self.resolve(self._bound[dim.axis])
            return self._bound[dim.axis]
        if isinstance(dim, Fixed) or self._bound.keys().isdisjoint(dim.names):
            return dim
        if isinstance(dim, Prod):
            return product(self.resolve(f) for f in dim.factors)
        return concat(self.resolve(t) for t in dim.terms)

    def freeze(self, dim: Dim, reason: str) -> None:
        """Leave every axis of `dim` alone; the first reason given is kept."""
        for name in atoms(self.resolve(dim)):
            self.frozen.setdefault(name, reason)

    def set_kind(self, dim: Dim, kind: str) -> None:
        """Say what the units of the axes in `dim` are; the more specific word wins."""
        for name in atoms(self.resolve(dim)):
            self.kinds[name] = max(kind, self.kinds[name], key=_KIND_ORDER.index)

    def fix(self, dim: Dim, reason: str) -> Dim:
        """Declare that the positions of `dim` are not units at all (kernel taps)."""
        dim = self.resolve(dim)
        if isinstance(dim, Atom):
            self._bound[dim.axis] = Fixed(self.sizes[dim.axis], reason)
        else:
            self.freeze(dim, reason)
        return self.resolve(dim)

    def ground(self, named: Iterable[str]) -> None:
        """Variables outside `named` run through no tensor: they become fixed positions."""
        for name in self.sizes.keys() - set(named) - self._bound.keys():
            self._bound[name] = Fixed(self.sizes[name], "repeated positions")

    def _bind(self, name: str, dim: Dim) -> None:
        if name in atoms(dim):
            self.freeze(dim, "an axis meets a part of itself")
            return
        self._bound[name] = dim
        if name in self.frozen:
            self.freeze(dim, self.frozen[name])
        self.set_kind(dim, self.kinds[name])

    def unify(self, a: Dim, b: Dim) -> Dim:
        """State that `a` and `b` are the same dimension; returns it in normal form."""
        a, b = self.resolve(a), self.resolve(b)
        if a is b or a == b:
            return a
        if self.size(a) != self.size(b):
            reason = f"dimensions of {self.size(a)} and {self.size(b)} positions meet"
            self.freeze(a, reason)
            self.freeze(b, reason)
        elif isinstance(a, Fixed) or isinstance(b, Fixed):
            fixed, other = (a, b) if isinstance(a, Fixed) else (b, a)
            self.freeze(other, fixed.reason)  # type: ignore[union-attr]
            return other
        elif isinstance(a, Atom) or isinstance(b, Atom):
            if isinstance(b, Atom) and not (
                isinstance(a, Atom) and int(a.axis[1:]) > int(b.axis[1:])
            ):
                self._bind(b.axis, a)
            else:
                assert isinstance(a, Atom)
                self._bind(a.axis, b)
        elif isinstance(a, Sum) or isinstance(b, Sum):
            self._align_terms(a, b)
        else:
            self._align_factors(a, b)
        return self.resolve(a)

    def _align_terms(self, a: Dim, b: Dim) -> None:
        left, right = [a], [b]
        while left and right:
            x, y = self.resolve(left.pop(0)), self.resolve(right.pop(0))
            if isinstance(x, Sum):
                left[:0] = x.terms
                right.insert(0, y)
                continue
            if isinstance(y, Sum):
                right[:0] = y.terms
                left.insert(0, x)
                continue
            n, m = self.size(x), self.size(y)
            if n > m:
                parts = self.split(x, m)
                if parts is None:
                    return self._refuse(a, b)
                x, rest = parts
                left.insert(0, rest)
            elif m > n:
                parts = self.split(y, n)
                if parts is None:
                    return self._refuse(a, b)
                y, rest = parts
                right.insert(0, rest)
            self.unify(x, y)
        return None

    def _align_factors(self, a: Dim, b: Dim) -> None:
        left, right = [a], [b]
        while left and right:
            x, y = self.resolve(left.pop()), self.resolve(right.pop())
            if isinstance(x, Prod):
                left.extend(x.factors)
                right.append(y)
                continue
            if isinstance(y, Prod):
                right.extend(y.factors)
                left.append(x)
                continue
            n, m = self.size(x), self.size(y)
            if n > m:
                parts = self.factor(x, m)
                if parts is None:
                    return self._refuse(a, b)
                outer, x = parts
                left.append(outer)
            elif m > n:
                parts = self.factor(y, n)
                if parts is None:
                    return self._refuse(a, b)
                outer, y = parts
                right.append(outer)
            self.unify(x, y)
        return None

    def _refuse(self, a: Dim, b: Dim) -> None:
        reason = f"({self.resolve(a)}) and ({self.resolve(b)}) do not divide into each other"
        self.freeze(a, reason)
        self.freeze(b, reason)

    def split(self, dim: Dim, position: int) -> tuple[Dim, Dim] | None:
        """`dim` cut into its first `position` positions and the rest; None without a seam there."""
        dim = self.resolve(dim)
        n = self.size(dim)
        if position in (0, n):
            empty = Fixed(0)
            return (empty, dim) if position == 0 else (dim, empty)
        if isinstance(dim, Fixed):
            return Fixed(position, dim.reason), Fixed(n - position, dim.reason)
        if isinstance(dim, Atom):
            left, right = self.fresh(position), self.fresh(n - position)
            self._bind(dim.axis, concat((left, right)))
            return left, right
        if isinstance(dim, Prod):
            inner = product(dim.factors[1:])
            if position % self.size(inner):
                return None
            parts = self.split(dim.factors[0], position // self.size(inner))
            return parts and (product((parts[0], inner)), product((parts[1], inner)))
        before: list[Dim] = []
        for i, term in enumerate(dim.terms):
            n = self.size(term)
            if position < n:
                parts = self.split(term, position)
                if parts is None:
                    return None
                return concat((*before, parts[0])), concat((parts[1], *dim.terms[i + 1 :]))
            before.append(term)
            position -= n
            if position == 0:
                return concat(before), concat(dim.terms[i + 1 :])
        raise AssertionError("position lies outside the dimension")

    def factor(self, dim: Dim, inner: int) -> tuple[Dim, Dim] | None:
        """Write `dim` as outer × inner with `inner` positions in the inner part, if it divides."""
        dim = self.resolve(dim)
        n = self.size(dim)
        if n % inner:
            return None
        if inner in (1, n):
            return (dim, Fixed(1)) if inner == 1 else (Fixed(1), dim)
        if isinstance(dim, Fixed):
            return Fixed(n // inner, dim.reason), Fixed(inner, dim.reason)
        if isinstance(dim, Atom):
            outer, rest = self.fresh(n // inner), self.fresh(inner)
            self._bind(dim.axis, product((outer, rest)))
            return outer, rest
        if isinstance(dim, Prod):
            taken: list[Dim] = []
            factors = list(dim.factors)
            while inner > 1:
                last = factors.pop()
                n = self.size(last)
                if inner % n == 0:
                    taken.insert(0, last)
                    inner //= n
                    continue
                if n % inner:
                    return None
                parts = self.factor(last, inner)
                if parts is None:
                    return None
                factors.append(parts[0])
                taken.insert(0, parts[1])
                inner = 1
            return product(factors), product(taken)
        outers: list[Dim] = []
        shared: Dim | None = None
        for term in dim.terms:
            parts = self.factor(term, inner)
            if parts is None:
                return None
            outers.append(parts[0])
            shared = parts[1] if shared is None else self.unify(shared, parts[1])
        assert shared is not None
        return concat(outers), shared

    def reshape(self, dims: Sequence[Dim], shape: Sequence[int], reason: str) -> tuple[Dim, ...]:
        """Dimensions of a row-major view of `dims` with the given shape.

        Where the new boundaries cut through something that does not divide, all axes involved are
        frozen with `reason` and the result carries no units.
        """
        factors: list[Dim] = []
        for dim in map(self.resolve, dims):
            factors.extend(dim.factors if isinstance(dim, Prod) else (dim,))
        factors = [f for f in factors if self.size(f) != 1]
        out: list[Dim] = []
        for need in reversed(shape):
            taken: list[Dim] = []
            while need > 1:
                last = factors.pop() if factors else Fixed(1)
                n = self.size(last)
                if need % n == 0 and n > 1:
                    taken.insert(0, last)
                    need //= n
                    continue
                parts = self.factor(last, need) if n % need == 0 else None
                if parts is None:
                    for dim in dims:
                        self.freeze(dim, reason)
                    return tuple(Fixed(s, reason) for s in shape)
                factors.append(parts[0])
                taken.insert(0, parts[1])
                need = 1
            out.insert(0, product(taken))
        return tuple(out)
