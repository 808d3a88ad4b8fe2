"""What stands before a perceptron's first layer: periodic embeddings and factors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from skdistill._typing import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

#: Cosines of a column, and numbers that they are mapped to.
N_FREQUENCIES = 8
N_OUTPUTS = 3

#: Cosines that are held at a time outside of training.
MAX_COSINES = 2**20

#: Those that are held at a time in prediction: they stay in the cache.
PREDICTED_COSINES = 2**16

#: Products of matrices with at most so many multiplications are NumPy's, which takes a
#: third of torch's time for many small ones. It takes larger ones on several threads.
SMALL_PRODUCT = 2**17

#: Steps of the optimiser that an input's factor moves in one.
SCALE_STEP = 3.0

#: Standard deviation of the frequencies, in periods a unit of the scaled column.
FREQUENCY_SCALE = 0.1


def draw_waves(
    n_columns: int, rng: np.random.RandomState
) -> tuple[FloatArray, FloatArray]:
    r"""Draw the frequencies and phases of periodic embeddings.

    Frequencies :math:`2 \pi \nu` with :math:`\nu` normal, of standard deviation 0.1;
    phases uniform in :math:`[-\pi, \pi]`. They are not trained: trained ones, at the
    small step size that [1]_ takes, were no better.

    Parameters
    ----------
    n_columns : int
        Columns to embed.
    rng : RandomState
        Source of randomness.

    Returns
    -------
    frequencies, phases : ndarray of shape (n_columns, `N_FREQUENCIES`)
        Float64, of numbers that float32 holds exactly.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn, Steinwart, "Better by default: strong pre-tuned MLPs
           and boosted trees on tabular data", NeurIPS 2024.
    """
    shape = (n_columns, N_FREQUENCIES)
    frequencies = 2 * math.pi * FREQUENCY_SCALE * rng.normal(size=shape)
    phases = rng.uniform(-math.pi, math.pi, size=shape)
    # The same numbers in training, in float32, and in prediction, in float64.
    frequencies, phases = (
        values.astype(np.float32).astype(np.float64) for values in (frequencies, phases)
    )
    return frequencies, phases


def periodic_embedding(
    values: FloatArray,
    frequencies: FloatArray,
    phases: FloatArray,
    coefs: FloatArray,
    dtype: DTypeLike = np.float64,
) -> FloatArray:
    r"""Return :math:`\sum_f V_{jfe} \cos(\omega_{jf} x_j + \phi_{jf})` of each column.

    With the column beside it and the bias of the layer after it this is the PBLD
    embedding of [1]_.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_columns)
        Scaled numbers x.
    frequencies, phases : ndarray of shape (n_columns, n_frequencies)
        Of `draw_waves`.
    coefs : ndarray of shape (n_columns, n_frequencies, n_outputs)
        Coefficients V.
    dtype : dtype, default=float64
        Type that the cosines are taken in, everything else in float64. In float32,
        with an error below 1e-6, NumPy takes a twentieth of the time.

    Returns
    -------
    ndarray of shape (n_samples, n_columns * n_outputs)
        The outputs of the first column, then those of the second.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn, Steinwart, "Better by default: strong pre-tuned MLPs
           and boosted trees on tabular data", NeurIPS 2024.
    """
    n_columns, n_frequencies, n_outputs = coefs.shape
    outputs = np.empty((n_columns, len(values), n_outputs))
    # Of a few columns at a time: all cosines would be large beside the table.
    step = max(1, PREDICTED_COSINES // (n_frequencies * max(1, len(values))))
    for start in range(0, n_columns, step):
        some = slice(start, start + step)
        columns = np.ascontiguousarray(values.T[some])[:, None]
        angles = columns * frequencies[some, :, None] + phases[some, :, None]
        cosines = angles.astype(dtype, copy=False)
        np.cos(cosines, out=cosines)
        by_row = cosines.astype(np.float64, copy=False).transpose(0, 2, 1)
        np.matmul(by_row, coefs[some], out=outputs[some])
    joined: FloatArray = outputs.transpose(1, 0, 2).reshape(len(values), -1)
    return joined


class Front:
    """What stands before the first layer: embeddings, and a factor for each input.

    The periodic embeddings of some inputs are appended to the inputs x; the first
    layer then takes ``s * x``, with a trained factor s for each of its inputs. The
    factors are applied to the layer's weights, which are fewer than a batch's inputs
    and make the factors vanish once training is over.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    columns : ndarray of shape (n_columns,)
        Which of them are embedded.
    frequencies, phases : ndarray of shape (n_columns, n_frequencies)
        Shared by all members; with an axis before, of each member. Not trained.
    n_outputs : int, default=3
        Numbers that the cosines of a column are mapped to; the map is trained.
    """

    def __init__(
        self,
        n_in: int,
        columns: IntArray,
        frequencies: FloatArray,
        phases: FloatArray,
        n_outputs: int = N_OUTPUTS,
    ) -> None:
        self.columns = columns
        self.frequencies = frequencies
        self.phases = phases
        self.shape = (*frequencies.shape[-2:], n_outputs)
        self.n_in = n_in
        self.n_out = n_in + self.shape[0] * n_outputs
        self._n_coefs = math.prod(self.shape)
        self.n_parameters = self._n_coefs + self.n_out

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Hold the waves where, and in the type that, they are needed."""
        import torch

        every = np.array_equal(self.columns, np.arange(self.n_in))
        self._columns = None if every else torch.from_numpy(self.columns).to(device)
        self._frequencies = torch.from_numpy(self.frequencies).to(device, dtype)
        self._phases = torch.from_numpy(self.phases).to(device, dtype)

    def draw_parameters(self, generator: torch.Generator) -> torch.Tensor:
        """Draw one member's parameters.

        Coefficients are uniform in plus or minus 1 / sqrt(n_frequencies); all factors
        are 1.
        """
        import torch

        # Not where torch's default device is.
        on_cpu: Any = {"dtype": torch.float64, "device": "cpu"}
        drawn = torch.rand(self._n_coefs, generator=generator, **on_cpu)
        coefs = (2 * drawn - 1) / self.shape[1] ** 0.5
        return torch.cat([coefs, torch.zeros(self.n_out, **on_cpu)])

    def coefs(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return coefficients (G, n_columns, n_frequencies, n_outputs), a view."""
        return parameters[:, : self._n_coefs].view(len(parameters), *self.shape)

    def scaled(self, parameters: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the first layer's weights (G, n_out, width) times the factors."""
        return weight.addcmul(weight, self._offsets(parameters), value=SCALE_STEP)

    def _offsets(self, parameters: torch.Tensor) -> torch.Tensor:
        # A factor is 1 plus SCALE_STEP times these: a step of the optimiser moves it by
        # as many steps, and weight decay draws it to 1.
        return parameters[:, self._n_coefs :].unsqueeze(2)

    def max_rows(self, n_tables: int) -> int:
        """Return how many rows of each table to take at a time outside of training."""
        if self.frequencies.ndim == 3:
            n_tables = max(n_tables, len(self._frequencies))
        return max(1, MAX_COSINES // (n_tables * self.shape[0] * self.shape[1]))

    def narrow(self, rows: torch.Tensor) -> None:
        """Go on with the waves of some of the members, if each has its own."""
        if self.frequencies.ndim == 3:
            self._frequencies = self._frequencies[rows]
            self._phases = self._phases[rows]

    def forward(
        self, parameters: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the embeddings to a batch.

        All of it lies in memory input by input, as the cosines of a column do.

        Parameters
        ----------
        parameters : tensor of shape (G, n_parameters)
            Parameters of each member.
        x : tensor of shape (1 or G, batch_size, n_in)
            Inputs.

        Returns
        -------
        outputs : tensor of shape (G, batch_size, n_out)
            Inputs and embeddings.
        cosines : tensor of shape (1 or G, n_columns, n_frequencies, batch_size)
            What `backward` needs.
        """
        import torch

        inputs = x.transpose(1, 2).contiguous()
        columns = inputs
        if self._columns is not None:
            columns = inputs.index_select(1, self._columns)
        # A third of the time of `addcmul`, which is slow on operands of other shapes.
        angles = columns.unsqueeze(2) * self._frequencies[..., None]
        cosines = _cosines(angles.add_(self._phases[..., None]))
        coefs = self.coefs(parameters).transpose(2, 3)
        embedded = _products(coefs, cosines).flatten(1, 2)
        inputs = inputs.expand(len(parameters), -1, -1)
        return torch.cat([inputs, embedded], dim=1).transpose(1, 2), cosines

    def backward(
        self,
        parameters: torch.Tensor,
        cosines: torch.Tensor,
        slope: torch.Tensor,
        weight: torch.Tensor,
        to_weight: torch.Tensor,
        gradient: torch.Tensor,
    ) -> None:
        """Write the parameters' gradient, and turn that of the first layer's weights.

        Parameters
        ----------
        parameters : tensor of shape (G, n_parameters)
            Parameters of each member.
        cosines : tensor of shape (1 or G, n_columns, n_frequencies, batch_size)
            What `forward` returned.
        slope : tensor of shape (G, n_columns * n_outputs, batch_size)
            Slope of the objective in the embeddings.
        weight : tensor of shape (G, n_out, width)
            Weights of the first layer, without the factors.
        to_weight : tensor of shape (G, n_out, width)
            Gradient of the weights with the factors; becomes that without them.
        gradient : tensor of shape (G, n_parameters)
            Where to write.
        """
        n_columns, _, n_outputs = self.shape
        by_column = slope.view(len(slope), n_columns, n_outputs, -1)
        found = _products(by_column, cosines.transpose(2, 3))
        self.coefs(gradient).copy_(found.transpose(2, 3))
        to_factors = (weight * to_weight).sum(dim=2).mul_(SCALE_STEP)
        gradient[:, self._n_coefs :].copy_(to_factors)
        to_weight.addcmul_(to_weight, self._offsets(parameters), value=SCALE_STEP)


def _cosines(angles: torch.Tensor) -> torch.Tensor:
    """Return cosines in the place of angles.

    NumPy's in float32 take less than half the time of torch's.
    """
    import torch

    if angles.dtype != torch.float32 or angles.device.type != "cpu":
        return angles.cos_()
    values = angles.numpy()
    np.cos(values, out=values)
    return angles


def _products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply each member's matrices (G, n, a, b) by its own, or shared, (n, b, c)."""
    import torch

    if left.device.type != "cpu":
        return _products_at_once(left, right)
    # One by one: equal members stay equal to the last digit, whoever is beside them.
    if left[0, 0].numel() * right.shape[-1] <= SMALL_PRODUCT:
        return torch.from_numpy(np.matmul(left.numpy(), right.numpy()))
    rights = right.expand(len(left), -1, -1, -1)
    return torch.stack([one @ other for one, other in zip(left, rights, strict=True)])


def _products_at_once(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply in one operation, where starting one takes longer than doing it."""
    if len(right) > 1:
        return left @ right
    n_members, n, n_rows, n_inner = left.shape
    # Shared matrices: the rows of all members are those of one matrix.
    rows = left.transpose(0, 1).reshape(n, n_members * n_rows, n_inner)
    return (rows @ right[0]).view(n, n_members, n_rows, -1).transpose(0, 1)
