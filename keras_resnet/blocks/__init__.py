"""The layers that residual networks are built from."""

from keras_resnet.blocks.attention import EfficientChannelAttention as EfficientChannelAttention
from keras_resnet.blocks.attention import SqueezeExcite as SqueezeExcite
from keras_resnet.blocks.convolution import Convolution as Convolution
from keras_resnet.blocks.quantization import FakeQuantization as FakeQuantization
from keras_resnet.blocks.quantization import QuantizedDense as QuantizedDense
from keras_resnet.blocks.residual import VERSIONS as VERSIONS
from keras_resnet.blocks.residual import BottleneckBlock as BottleneckBlock
from keras_resnet.blocks.residual import IdentityBlock as IdentityBlock
from keras_resnet.blocks.shortcut import Shortcut as Shortcut
from keras_resnet.blocks.stem import Stem as Stem
