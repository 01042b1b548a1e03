"""LR: logistic regression, one weight an id."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from workloads.zoo.base import CtrModel
from workloads.zoo.network import Network


class LogisticRegression(CtrModel):
    """sigmoid(sum of one weight an id + a linear layer over the dense features)."""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        self._linear_tables()
        return self

    def network(self) -> Network:
        network = Network(self.dense_features)
        return self._logit(network, self._first_order(network, bias=True))


MODEL = LogisticRegression
