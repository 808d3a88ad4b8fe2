"""ModuleStudent: a torch module of the user's as a student."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from skdistill._device import resolve_device, seeded_torch_rng
from skdistill._stack import ModuleStack
from skdistill._typing import FloatArray, InputLike
from skdistill.students._gradient import GradientStudent
from skdistill.students._members import Member

if TYPE_CHECKING:
    import torch

#: Rows predicted at a time.
CHUNK_ROWS = 4096


class ModuleStudent(GradientStudent):
    """A torch module that can learn from soft labels.

    The module maps a float batch of shape (batch_size, n_features) to logits of shape
    (batch_size, n_classes). It is trained like
    :class:`~skdistill.students.MLPStudent`, on the same objective; its inputs are not
    rescaled. The fitted state is kept as numpy arrays, and the module is rebuilt when
    it is needed, on whatever device is there.

    Parameters
    ----------
    module : class, callable or torch.nn.Module
        What makes the module: a class or function called with `module_kwargs`, or a
        module to start from, which is copied. A callable with parameters named
        `n_features` or `n_classes` is given the numbers seen in `fit`. For pickling it
        must be importable.
    module_kwargs : dict or None, default=None
        Keyword arguments for `module` where it is called.
    batch_size : int or None, default=128
        Largest number of rows of a step; None takes all rows in every step.
    max_iter : int, default=200
        Largest number of epochs.
    learning_rate_init : float, default=0.001
        Step size of AdamW.
    weight_decay : float, default=1e-4
        Decoupled weight decay of AdamW.
    early_stopping : bool or "auto", default="auto"
        As in :class:`~skdistill.students.MLPStudent`.
    validation_fraction : float, default=0.1
        Share of rows held out by early stopping, in (0, 1).
    n_iter_no_change : int, default=15
        Epochs without an improvement of `tol` after which training stops.
    tol : float, default=1e-4
        Improvement of the loss that counts.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in :class:`~skdistill.students.LinearStudent`. The
        loss on held-out rows is weighted as well.
    device : str, default="auto"
        "auto" (CUDA if there is one, then MPS, else CPU) or a torch device.
    dtype : {"float32", "float64"}, default="float32"
        Type of the module and its inputs, in training and prediction. In training on
        CUDA products of float32 are taken in TF32, whose mantissa has 10 bits, unless
        you have set torch's precision of products yourself.
    random_state : int, RandomState instance or None, default=None
        Initial parameters, random layers, held-out rows and shuffling. Random layers
        draw from torch's global generator, so module students train one at a time even
        where ``n_jobs`` runs threads.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    state_ : dict of str to ndarray
        The trained module's ``state_dict``, which has no buffers that are registered
        as not persistent.
    loss_curve_, validation_scores_, best_validation_score_, n_iter_
        As in :class:`~skdistill.students.MLPStudent`.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from torch import nn
    >>> from skdistill.students import ModuleStudent
    >>> X, y = load_iris(return_X_y=True)
    >>> def network(n_features, n_classes, width=16):
    ...     return nn.Sequential(
    ...         nn.Linear(n_features, width), nn.SiLU(), nn.Linear(width, n_classes)
    ...     )
    >>> student = ModuleStudent(
    ...     network,
    ...     module_kwargs={"width": 8},
    ...     learning_rate_init=0.01,
    ...     random_state=0,
    ... )
    >>> bool(student.fit(X, y).score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **GradientStudent._parameter_constraints,
        "module": [callable],
        "module_kwargs": [dict, None],
    }

    def __init__(
        self,
        module: Any,
        *,
        module_kwargs: dict[str, Any] | None = None,
        batch_size: int | None = 128,
        max_iter: int = 200,
        learning_rate_init: float = 0.001,
        weight_decay: float = 1e-4,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 15,
        tol: float = 1e-4,
        class_weight: Any = None,
        device: str = "auto",
        dtype: str = "float32",
        random_state: Any = None,
    ) -> None:
        self.module = module
        self.module_kwargs = module_kwargs
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        # Rebuilt modules are copies of state_ on some device: nothing to be pickled.
        if "_rebuilt" in state:
            state["_rebuilt"] = {}
        return state

    def _build(
        self, n_classes: int, seed: int, source: tuple[Any, Any] | None = None
    ) -> torch.nn.Module:
        """Make an untrained module of `module` and `module_kwargs`, or of others."""
        import torch

        make, module_kwargs = source or (self.module, self.module_kwargs)
        if isinstance(make, torch.nn.Module):
            return copy.deepcopy(make)
        kwargs = dict(module_kwargs or {})
        sizes = {"n_features": self.n_features_in_, "n_classes": n_classes}
        accepted = inspect.signature(make).parameters
        kwargs = {n: v for n, v in sizes.items() if n in accepted} | kwargs
        with seeded_torch_rng(seed, "cpu"), torch.device("cpu"):
            module = make(**kwargs)
        if not isinstance(module, torch.nn.Module):
            raise TypeError(
                "module must make a torch.nn.Module, but calling it returned "
                f"{type(module).__name__}."
            )
        return module

    def _random_layers(self, seed: int, device: str) -> AbstractContextManager[None]:
        return seeded_torch_rng(seed, device)

    def _make_stack(
        self,
        members: Sequence[Member],
        generators: Sequence[torch.Generator],
        device: str,
    ) -> ModuleStack:
        import torch

        problem, seed = members[0].problem, members[0].seed
        module = self._build(len(problem.classes), seed)
        module.to(device=device, dtype=getattr(torch, self.dtype))
        if not any(p.requires_grad for p in module.parameters()):
            raise ValueError("module has no parameter to train.")
        # Seeded: lazy layers draw their parameters when they see the first rows.
        with seeded_torch_rng(seed, device):
            self._check_output(module, problem.X, len(problem.classes), device)
        return ModuleStack([module])

    def _check_task(self, X: InputLike, n_classes: int) -> None:
        import torch

        X = self._check_X(X, reset=True)
        device = resolve_device(self.device)
        module = self._build(n_classes, 0).to(device, getattr(torch, self.dtype))
        with seeded_torch_rng(0, device):
            self._check_output(module, X, n_classes, device)

    def _check_output(
        self, module: torch.nn.Module, X: FloatArray, n_classes: int, device: str
    ) -> None:
        """Raise unless the module returns one logit a class for each row."""
        import torch

        rows = self._batch(X[:2], self.dtype, device)
        module.eval()
        with torch.no_grad():
            output = module(rows)
        expected = (len(rows), n_classes)
        shape = tuple(getattr(output, "shape", ()))
        if not isinstance(output, torch.Tensor) or shape != expected:
            got = shape if isinstance(output, torch.Tensor) else type(output).__name__
            raise ValueError(
                "module must return logits of shape (batch_size, n_classes) = "
                f"{expected} for a batch of {len(rows)} rows, got {got}."
            )

    def _batch(self, X: FloatArray, dtype: str, device: str) -> torch.Tensor:
        """Copy rows to the device; torch takes no read-only memory as it is."""
        import torch

        with np.errstate(over="ignore"):
            rows = X.astype(dtype)
        if not np.isfinite(rows).all():
            raise ValueError(
                f"Input X contains a value too large for dtype={dtype!r} of the "
                "student. Scale X, or use dtype='float64'."
            )
        return torch.from_numpy(rows).to(device)

    def _attributes(self, member_state: Any) -> dict[str, Any]:
        return {
            "state_": member_state,
            "_rebuilt": {},
            "_fitted_source": (self.module, self.module_kwargs),
            "_fitted_dtype": self.dtype,
        }

    def _fitted_module(self, device: str) -> torch.nn.Module:
        """Return the trained module, rebuilt once per fit and device."""
        import torch

        if device in self._rebuilt:
            return self._rebuilt[device]
        module = self._build(len(self.classes_), 0, self._fitted_source)
        module.to(device=device, dtype=getattr(torch, self._fitted_dtype))
        state = {
            name: torch.from_numpy(value.copy())
            if isinstance(value, np.ndarray)
            else value
            for name, value in self.state_.items()
        }
        module.load_state_dict(state)
        module.eval()
        self._rebuilt[device] = module
        return module

    def _logits(self, X: InputLike) -> FloatArray:
        import torch

        device = resolve_device(self.device, must_exist=False)
        module = self._fitted_module(device)
        logits = np.empty((len(X), len(self.classes_)))
        with torch.no_grad():
            for start in range(0, len(X), CHUNK_ROWS):
                rows = slice(start, start + CHUNK_ROWS)
                batch = self._batch(X[rows], self._fitted_dtype, device)
                logits[rows] = module(batch).to(batch.dtype).cpu().numpy()
        return logits
