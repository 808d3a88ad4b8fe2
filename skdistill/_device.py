"""Where torch computes: the device, and how many CPU threads."""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_lock = threading.RLock()
_loops_running = 0
_threads_before = 0
_of_this_thread = threading.local()
_fast_loops = 0
_precision_is_ours = False

#: Share of a GPU's free memory that data may take as a whole; larger ones are streamed.
RESIDENT_SHARE = 0.5

#: Held while a user's module is built or trained: its random layers draw from torch's
#: global generator, so only one thread at a time may do so and stay reproducible.
torch_rng_lock = threading.RLock()


def resolve_device(device: str, *, must_exist: bool = True) -> str:
    """Return the torch device that `device` stands for.

    Parameters
    ----------
    device : str
        "auto" (CUDA if there is one, then MPS, else CPU) or a torch device string.
    must_exist : bool, default=True
        Whether an absent device is an error. If False, the CPU takes its place: what
        was trained on a GPU must predict where there is none.

    Returns
    -------
    str
        A device that this process can use.

    Raises
    ------
    ValueError
        If `device` is no torch device, or is not there and `must_exist`.
    """
    import torch

    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if torch.cuda.is_available():
        present.insert(0, "cuda")
    if device == "auto":
        return present[0]
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is not a torch device; use 'auto' or one of {present}."
        ) from error
    n_devices = torch.cuda.device_count() if parsed.type == "cuda" else 1
    if parsed.type in present and (parsed.index or 0) < n_devices:
        return str(parsed)
    if must_exist:
        raise ValueError(
            f"device={device!r} is not available here; use 'auto' or one of {present}."
        )
    return "cpu"


def fits_on(device: str, n_bytes: int) -> bool:
    """Return whether data are moved to a device as a whole.

    Parameters
    ----------
    device : str
        Torch device.
    n_bytes : int
        Size of inputs and targets.

    Returns
    -------
    bool
        On CUDA, whether they take at most half of the memory that is free; elsewhere
        True, as the memory is the host's.
    """
    import torch

    if not device.startswith("cuda"):
        return True
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps of earlier work, to use it again, is not free to others.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return bool(n_bytes <= RESIDENT_SHARE * free)


@cache
def side_stream(device: torch.device, purpose: str) -> torch.cuda.Stream:
    """Return the stream for something that goes on beside the steps.

    The same one each time. torch hands out 32 streams in turn, so that a new one may be
    one that is being captured; and it keeps memory for each that has been used.

    Parameters
    ----------
    device : torch.device
        A CUDA device with its number.
    purpose : str
        What for: others have other streams.

    Returns
    -------
    torch.cuda.Stream
        The stream.
    """
    import torch

    return torch.cuda.Stream(device)


def has_bfloat16_products() -> bool:
    """Return whether this processor has instructions for products in bfloat16.

    AVX512-BF16, the ones that were measured to be faster than float32.

    Returns
    -------
    bool
        Whether it has them. False too where torch cannot tell.
    """
    import torch

    tell = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(tell is not None and tell())


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Run a block with `n_threads` torch threads and restore the count afterwards.

    Torch keeps the count per Python thread and a default for new threads. Several loops
    may run side by side (``n_jobs`` with threads), so the count to go back to is the
    one found before the first of them began, not the one found by each. A block inside
    another of the same thread (a fit in another fit's callback) goes back to the outer
    one's.

    Parameters
    ----------
    n_threads : int
        Number of CPU threads for one operation, at least 1.
    """
    import torch

    global _loops_running, _threads_before
    with _lock:
        if _loops_running == 0:
            _threads_before = torch.get_num_threads()
        _loops_running += 1
        outer = getattr(_of_this_thread, "n_threads", None)
        restore = _threads_before if outer is None else outer
    try:
        _of_this_thread.n_threads = n_threads
        torch.set_num_threads(n_threads)
        yield
    finally:
        _of_this_thread.n_threads = outer
        with _lock:
            _loops_running -= 1
            torch.set_num_threads(restore)


@contextmanager
def fast_products(device: str) -> Iterator[None]:
    """On CUDA let products of float32 be taken in TF32 within a block.

    TF32 has the range of float32 and a mantissa of 10 bits. The setting is the
    process's: it is made by the first of the blocks that run side by side, and put back
    after the last. A precision that the user has set is left as it is.

    Parameters
    ----------
    device : str
        Type of the device, "cuda" or another.
    """
    if device != "cuda":
        yield
        return
    global _fast_loops
    with _lock:
        if _fast_loops == 0:
            _let_products_be_fast()
        _fast_loops += 1
    try:
        yield
    finally:
        with _lock:
            _fast_loops -= 1
            if _fast_loops == 0:
                _put_products_back()


def _precisions() -> tuple[str, str, str]:
    """Return what float32 products may be taken in: on CUDA, by oneDNN, anywhere."""
    backends: Any = importlib.import_module("torch.backends")
    return (
        backends.cuda.matmul.fp32_precision,
        backends.mkldnn.matmul.fp32_precision,
        backends.fp32_precision,
    )


def _set_precision(precision: str) -> None:
    """Set torch's older and newer flags alike: some of torch refuses a mixture."""
    import torch

    with warnings.catch_warnings():
        # torch 2.9 would have the newer ones alone.
        warnings.filterwarnings("ignore", "Please use the new API", UserWarning)
        torch.set_float32_matmul_precision(precision)


def _let_products_be_fast() -> None:
    global _precision_is_ours
    # "none" stands for float32 where nobody has set anything else.
    if set(_precisions()) == {"none"}:
        _set_precision("high")
        _precision_is_ours = True


def _put_products_back() -> None:
    global _precision_is_ours
    if _precision_is_ours:
        backends: Any = importlib.import_module("torch.backends")
        _set_precision("highest")
        backends.cuda.matmul.fp32_precision = "none"
        backends.mkldnn.matmul.fp32_precision = "none"
        _precision_is_ours = False


@contextmanager
def seeded_torch_rng(seed: int, device: str) -> Iterator[None]:
    """Seed torch's global generators for a block; put their states back afterwards.

    Parameters
    ----------
    seed : int
        Seed for the CPU generator and that of `device`.
    device : str
        Device whose generator is seeded and restored too.
    """
    import torch

    cuda: list[Any] = [device] if device.startswith("cuda") else []
    with torch_rng_lock, torch.random.fork_rng(devices=cuda):
        # torch.manual_seed would seed all devices, and only these are put back.
        torch.default_generator.manual_seed(seed)
        if device.startswith("mps"):
            # `fork_rng` cannot: this device has no number.
            before = torch.mps.get_rng_state()
            torch.mps.manual_seed(seed)
            try:
                yield
            finally:
                torch.mps.set_rng_state(before)
            return
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
