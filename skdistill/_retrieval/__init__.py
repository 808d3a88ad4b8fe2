"""The retriever: a student that finds the labels of a row among very many."""

from skdistill._retrieval.estimator import DistillationRetriever

__all__ = ["DistillationRetriever"]
