"""Made by docs/catalogue.py."""

from .catalog import cite as cite
from .catalog import find as find
from .catalog import show as show
from .comparison import compare as compare
from .explanation import explain as explain
from .factory import create as create
from .factory import load_reference as load_reference
from .measurement import measure as measure
from .measurement import scaling as scaling
from .mechanisms.cbam import CBAM as CBAM
from .mechanisms.coordinate import Coordinate as Coordinate
from .mechanisms.dual_attention import ChannelAttention as ChannelAttention
from .mechanisms.dual_attention import DualAttention as DualAttention
from .mechanisms.dual_attention import DualAttentionHead as DualAttentionHead
from .mechanisms.dual_attention import PositionAttention as PositionAttention
from .mechanisms.eca import ECA as ECA
from .mechanisms.external_attention import ExternalAttention as ExternalAttention
from .mechanisms.multi_head import MultiHead as MultiHead
from .mechanisms.non_local import NonLocal as NonLocal
from .mechanisms.selective_kernel import SelectiveKernel as SelectiveKernel
from .mechanisms.simam import SimAM as SimAM
from .mechanisms.spatial_transformer import SpatialTransformer as SpatialTransformer
from .mechanisms.squeeze_excitation import SqueezeExcitation as SqueezeExcitation
from .surgery import attention_parameters as attention_parameters
from .surgery import insert as insert
from .surgery import insertions as insertions
from .surgery import plan as plan
from .surgery import remove as remove
from .surgery import replace as replace

__version__: str
