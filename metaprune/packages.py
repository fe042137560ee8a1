"""Our packages have generic names; this says so clearly when another one shadows them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("graphs", "metanet", "pruners", "training")
HOME = Path(__file__).resolve().parent.parent
"""The folder that holds `metaprune`, its sister packages and `conf`."""

CONF = HOME / "conf"
"""The tree of hydra configurations."""


def check_packages(home: Path = HOME, packages: tuple[str, ...] = PACKAGES) -> None:
    """Make sure that every package that metaprune is made of is the one installed beside it.

    Args:
        home: folder in which the packages must be.
        packages: names of top-level packages.

    Raises:
        ImportError: one is missing, or Python finds another package or module of that name first.
    """
    for name in packages:
        spec = find_spec(name)
        if spec is None:
            raise ImportError(
                f"metaprune needs its package {name!r} in {str(home)!r}, which is not there; "
                "install metaprune again",
                name=name,
            )
        places = list(spec.submodule_search_locations or ()) or [spec.origin or "a built-in module"]
        if not any(Path(place).resolve() == home / name for place in places):
            raise ImportError(
                f"metaprune needs its own package {name!r}, but Python finds {places[0]!r} first; "
                "rename that one, or start Python where it is not on the path",
                name=name,
                path=places[0],
            )
