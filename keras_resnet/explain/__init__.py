"""Where in its input a network sees what it says: class activation maps, integrated gradients, occlusion.

Example:
    >>> import numpy as np, keras_resnet
    >>> from keras_resnet import explain
    >>> model = keras_resnet.ResNet18(input_shape=(32, 32, 3), stem="small", width=4, classes=5)
    >>> explain.explain(model, np.zeros((2, 32, 32, 3), "float32"), method="grad-cam").maps.shape
    (2, 32, 32)
"""

from keras_resnet.explain.methods import METHODS as METHODS
from keras_resnet.explain.methods import Explanation as Explanation
from keras_resnet.explain.methods import explain as explain
from keras_resnet.explain.overlays import explain_files as explain_files
from keras_resnet.explain.overlays import overlay as overlay
