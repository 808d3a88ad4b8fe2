"""Type aliases shared by the package."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: What scikit-learn accepts as ``X``: array, sparse matrix, data frame, list of str.
InputLike: TypeAlias = Any

#: A numpy array or a torch tensor; torch is optional at import time, so it has no name.
ArrayOrTensor: TypeAlias = Any

#: Any object following scikit-learn's estimator API.
Estimator: TypeAlias = Any

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.integer[Any]]
