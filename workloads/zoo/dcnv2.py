"""DCNv2: a cross network, one matrix a layer, beside or below a deep network."""

from __future__ import annotations

from typing import ClassVar, Literal

from workloads.zoo.dcn import Dcn


class DcnV2(Dcn):
    """Wang et al. 2021 (arXiv 2008.13535), full-rank matrices without mixture of experts; structures as in `dcn`."""

    kind: ClassVar[Literal["vector", "matrix"]] = "matrix"


MODEL = DcnV2
