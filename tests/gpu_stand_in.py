"""A GPU that is not there: its tensors hold tensors of the CPU, and CUDA's rules apply.

Tests see with it, where there is no GPU, that the tensors of an operation are on one
device, that a captured step does nothing on the host, that replays do what plain steps
do, and that what is copied beside the steps is waited for. They see nothing of what
CUDA's own libraries do.
"""

import threading
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
#: Operations that may take tensors of both sides.
CROSSING = {aten._to_copy, aten.copy_, aten.index, aten.index_put_}
#: Operations that the host waits for.
READING = {aten._local_scalar_dense, aten.nonzero}


class OnGpu(torch.Tensor):
    """A tensor on the GPU; its values are in `held`, on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = torch.device("cuda", 0)

    @staticmethod
    def __new__(cls, held, gpu):
        # To torch it is on "meta", so that only operations get at its values; and where
        # something is to be moved to where it is, "meta" is asked for.
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, dtype=held.dtype, device="meta", **layout
        )

    def __init__(self, held, gpu):
        self.held, self.gpu = held, gpu

    def tolist(self):
        return self.cpu().tolist()

    def record_stream(self, stream):
        self.gpu.recorded.append(self.held.data_ptr())

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        gpu = next(x.gpu for x in tree_leaves((args, kwargs)) if isinstance(x, cls))
        return gpu.do(function, args, kwargs or {})


class Gpu(TorchDispatchMode):
    """The GPU of device="cuda:0", there while the block runs."""

    def __init__(self):
        super().__init__()
        self.graphs, self.copied, self.recorded = [], [], []
        self.default_stream = Stream()
        self._threads = threading.local()

    @property
    def stream(self):
        return getattr(self._threads, "stream", self.default_stream)

    @contextmanager
    def use(self, stream):
        before, self._threads.stream = self.stream, stream
        try:
            yield
        finally:
            self._threads.stream = before

    @contextmanager
    def capture(self, graph, stream, capture_error_mode):
        self.graphs.append(graph)
        stream.graph = graph
        try:
            with self.use(stream):
                yield
        finally:
            stream.graph = None
            graph.undo()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return self.do(function, args, kwargs or {})

    def do(self, function, args, kwargs):
        """Do what has to do with this GPU as CUDA would, all else as it is."""
        kind, stream = function.overloadpacket, self.stream
        tensors = [x for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)]
        ours = {id(x.held): x for x in tensors if isinstance(x, OnGpu)}
        of_host = [x for x in tensors if not isinstance(x, OnGpu) and x.ndim]
        to = kwargs.get("device") and torch.device(kwargs["device"]).type
        if not ours and to not in ("cuda", "meta"):
            return function(*args, **kwargs)
        if ours and of_host and kind not in CROSSING:
            raise RuntimeError(f"{kind}: expected all tensors on one device")
        if stream.graph and (of_host or to == "cpu" or kind in READING):
            raise RuntimeError(f"{kind}: not permitted while a stream captures")
        args, kwargs = tree_map(lambda x: getattr(x, "held", x), (args, kwargs))
        kwargs |= {"device": "cpu"} if to else {}
        if stream.graph:
            result = stream.graph.note(function, args, kwargs)
        else:
            result = function(*args, **kwargs)
        if to == "cpu" or kind is aten._local_scalar_dense:
            return result
        if kind is aten._to_copy and of_host and stream is not self.default_stream:
            self.copied.append(result.data_ptr())
            stream.send(of_host[0], result)

        def back(x):
            return ours[id(x)] if id(x) in ours else OnGpu(x, self)

        return tree_map(lambda x: back(x) if torch.is_tensor(x) else x, result)


class Stream:
    """What is sent in it has arrived once an event after it is waited for."""

    device, graph = OnGpu.device, None

    def __init__(self, device=None):
        self.sent, self.n_arrived = [], 0

    def send(self, source, target):
        assert hasattr(source, "pinned"), "pageable memory is not copied beside steps"
        self.sent.append((target, target.clone()))
        target.fill_(-1)

    def record_event(self):
        return self, len(self.sent)

    def wait_event(self, event):
        stream, n_sent = event
        for target, values in stream.sent[stream.n_arrived : n_sent]:
            target.copy_(values)
        stream.n_arrived = max(n_sent, stream.n_arrived)


class Graph:
    """What is captured: operations, where they read, and where they write."""

    def __init__(self):
        self.notes, self.before, self.n_replays = [], [], 0

    def note(self, function, args, kwargs):
        taken = function._schema.arguments
        values = dict(zip((a.name for a in taken), args, strict=False)) | kwargs
        written = [values[a.name] for a in taken if a.is_write and a.name in values]
        self.before += [(x, x.clone()) for x in tree_leaves(written)]
        result = function(*args, **kwargs)
        self.notes.append((function, args, kwargs, result))
        return result

    def undo(self):
        """Put back what was written: a capture does nothing."""
        for tensor, value in reversed(self.before):
            tensor.copy_(value)

    def replay(self):
        self.n_replays += 1
        for function, args, kwargs, result in self.notes:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if old is not new:
                    old.copy_(new)


def put_in(gpu, monkeypatch):
    """Let torch's functions be about a GPU that stands in."""

    def pin_memory(tensor):
        tensor = tensor.clone()
        tensor.pinned = True
        return tensor

    names = {
        "CUDAGraph": Graph,
        "Stream": Stream,
        "_lazy_init": lambda: None,
        "current_stream": lambda device: gpu.stream,
        "device_count": lambda: 1,
        "graph": gpu.capture,
        "is_available": lambda: True,
        "mem_get_info": lambda device: (2**30, 2**30),
        "stream": gpu.use,
    }
    for name, value in names.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
