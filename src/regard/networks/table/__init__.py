"""The networks as data, one file per family; torch is not imported."""

from __future__ import annotations

from .mobile import MOBILE
from .network import Network, Placement, records
from .own import OWN
from .resnets import RESNETS
from .segmentation import SEGMENTATION
from .transformers import TRANSFORMERS

__all__ = ["NETWORKS", "Network", "Placement", "records"]

NETWORKS: dict[str, Network] = {
    network.name: network for network in (*RESNETS, *MOBILE, *OWN, *TRANSFORMERS, *SEGMENTATION)
}
