"""ResNet-18, -34, -50, -101 and -152: a table of variants and one builder."""

from keras_resnet.models.constructors import ResNet18 as ResNet18
from keras_resnet.models.constructors import ResNet34 as ResNet34
from keras_resnet.models.constructors import ResNet50 as ResNet50
from keras_resnet.models.constructors import ResNet101 as ResNet101
from keras_resnet.models.constructors import ResNet152 as ResNet152
from keras_resnet.models.constructors import build as build
from keras_resnet.models.features import features as features
from keras_resnet.models.features import stage_outputs as stage_outputs
from keras_resnet.models.fusion import fuse as fuse
from keras_resnet.models.info import Cost as Cost
from keras_resnet.models.info import ModelInfo as ModelInfo
from keras_resnet.models.info import model_info as model_info
from keras_resnet.models.variants import VARIANTS as VARIANTS
from keras_resnet.models.variants import list_models as list_models
