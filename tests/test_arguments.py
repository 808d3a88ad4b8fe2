"""Whatever is passed to a function, the error says which argument it was."""

import inspect
import re
import warnings

import numpy as np
import pytest

from skdistill import diagnostics, losses, metrics
from skdistill._arguments import is_scalar_number, is_word, naming

N, K = 12, 3
RNG = np.random.default_rng(0)
PROBA, OTHER = RNG.dirichlet(np.ones(K), (2, N))
LOGITS = RNG.normal(size=(N, K))
CODES = np.arange(N) % K
SCORES = {
    f"{score}_{who}": RNG.random(6)
    for score in ("log_loss", "accuracy")
    for who in ("labels", "distilled")
}

#: What functions are called with: for all of them, or for one.
VALUES = {
    "X": RNG.normal(size=(N, 2)),
    "bayes_proba": PROBA,
    "bias": 0.1,
    "coef_norm": 1.0,
    "covariance": 0.1,
    "differences": LOGITS[:, 0],
    "first_proba": PROBA,
    "input_norm": 1.0,
    "inverse_propensity": np.ones(K),
    "is_own": np.eye(K, dtype=bool)[CODES],
    "k": 2,
    "logits": LOGITS,
    "n_classes": K,
    "n_drawn": 2,
    "n_features": 4,
    "n_kept": 1,
    "n_negatives": 3,
    "n_samples": 10,
    "n_test": 20,
    "n_train": 80,
    "proba": OTHER,
    "scores": LOGITS[:, 0],
    "second_proba": OTHER,
    "soft_labels": PROBA,
    "student_proba": OTHER,
    "target": PROBA,
    "targets": PROBA,
    "teacher": PROBA,
    "teacher_proba": PROBA,
    "temperature": 2.0,
    "test_train_ratio": 0.25,
    "variance_labels": 0.5,
    "variance_soft": 0.2,
    "y": CODES,
    "y_score": LOGITS,
    "y_train": np.eye(K)[CODES],
    "y_true": CODES,
    "bipartite_risk.soft_labels": PROBA[:, 0],
    "bipartite_slope.soft_labels": PROBA[:, 0],
    "gain_from_scores.scores": SCORES,
    "pick_all_labels.labels": np.eye(K)[CODES],
    "soft_log_loss.y_true": PROBA,
}
VALUES |= {
    f"{name}_at_k.y_true": np.eye(K)[CODES]
    for name in ("coverage", "ndcg", "precision", "psndcg", "psp", "recall")
}

#: Flags are true or false, whatever they are.
FLAGS = {"normalize", "fit_intercept"}

FUNCTIONS = [
    *(getattr(losses, name) for name in losses.__all__),
    *(getattr(metrics, name) for name in metrics.__all__),
    *(getattr(diagnostics, name) for name in diagnostics.__all__),
]
# Those that fit models or make scorers have tests of their own; so has what takes a
# sample of the labels, and bounds whose loss must be bounded.
ELSEWHERE = {
    "cross_fit_bias_variance",
    "distillation_gain",
    "retrieval_scorer",
    "risk_bound",
    "sampled_softmax_loss",
    "teacher_bias_variance",
    "teacher_report",
}
FUNCTIONS = [
    f for f in FUNCTIONS if inspect.isfunction(f) and f.__name__ not in ELSEWHERE
]

WRONG = [
    "bad",
    object(),
    {"a": 1},
    [],
    -1,
    np.nan,
    np.zeros((2, 2)),
    np.full((N, K), np.nan),
    np.zeros(N + 1),
    np.array(["a"] * N),
]


def arguments(function):
    """Return what a function can be called with."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        default = parameter.default
        own = VALUES.get(f"{function.__name__}.{name}", VALUES.get(name, default))
        found[name] = own if default is inspect.Parameter.empty else default
    return found


def error(function, given, name, value):
    """Return what a function says of a wrong argument; None if it takes it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**{**given, name: value})
    except (TypeError, ValueError) as raised:
        return str(raised)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_errors_name_the_argument(function):
    given = arguments(function)
    function(**given)
    errors = [(name, error(function, given, name, v)) for name in given for v in WRONG]
    refused = [(name, message) for name, message in errors if message is not None]
    assert len(refused) >= len(given)
    for name, message in refused:
        assert name in FLAGS or re.search(rf"(?<!\w){name}(?!\w)", message), name


@pytest.mark.parametrize("value", [[], {}, object(), None, 1, np.array(["a", "b"])])
def test_what_is_no_text_is_no_word(value):
    assert not is_word(value, {"a": 1})
    assert not is_word(value, ("a", "b"))
    assert is_word("a", {"a": 1})


def test_one_number_is_a_number():
    assert all(map(is_scalar_number, [1, 1.0, np.float32(1), np.int8(1)]))
    assert not any(map(is_scalar_number, ["1", None, [1], np.ones(1), 1j]))


def test_a_name_is_put_before_an_error_that_does_not_say_it():
    with pytest.raises(ValueError, match=r"^width: could not convert"), naming("width"):
        float("x")
    with pytest.raises(TypeError, match=r"^width: float"), naming("width"):
        float([])
    with pytest.raises(ValueError, match=r"^the width is wrong$"), naming("width"):
        raise ValueError("the width is wrong")
    with pytest.raises(ValueError, match=r"^width: widths$"), naming("width"):
        raise ValueError("widths")
