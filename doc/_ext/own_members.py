"""Leave members that a class inherits from another package out of the API pages."""

from functools import cached_property
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("autodoc-skip-member", skip_foreign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def skip_foreign(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Return True for a member that is defined outside of skdistill."""
    module = defining_module(obj)
    foreign = module is not None and module.partition(".")[0] != "skdistill"
    return True if foreign else None


def defining_module(obj: Any) -> str | None:
    """Return the name of the module that defines a method or a property."""
    if isinstance(obj, property):
        obj = obj.fget
    elif isinstance(obj, cached_property):
        obj = obj.func
    return getattr(obj, "__module__", None)
