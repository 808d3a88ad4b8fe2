"""Print what a bug report needs."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

PACKAGES = ("skdistill", "scikit-learn", "numpy", "scipy", "torch", "joblib")


def show_versions() -> None:
    """Print the versions of Python, skdistill and its dependencies, and the device.

    Examples
    --------
    >>> import skdistill
    >>> skdistill.show_versions()  # doctest: +ELLIPSIS
    python: ...
    """
    from skdistill._device import resolve_device

    print("python:", sys.version.replace("\n", " "))
    print("platform:", platform.platform())
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        print(f"{package}: {version}")
    print("device:", resolve_device("auto"))
