"""Published weights: where they are, what belongs to them, and how files of other libraries are read and written.

Example:
    >>> from keras_resnet import weights
    >>> [row.tag for row in weights.list_weights("resnet18") if row.publisher == "torchvision"]
    ['tv1']
"""

from keras_resnet.weights.adaptation import architecture_of as architecture_of
from keras_resnet.weights.files import open_tensors as open_tensors
from keras_resnet.weights.loading import Audit as Audit
from keras_resnet.weights.loading import load_weights as load_weights
from keras_resnet.weights.loading import save_weights as save_weights
from keras_resnet.weights.sources import Source as Source
from keras_resnet.weights.sources import list_weights as list_weights
