"""Search of hyperparameters over recipes and variants; installed as `keras_resnet.tuning`.

Example:
    >>> from keras_resnet import tuning
    >>> tuning.Space.load("default").names[:3]
    ['optimizer.name', 'schedule.name', 'optimizer.learning_rate']
"""

from keras_resnet import needs_tensorflow  # noqa: F401
from keras_resnet.tuning.definition import Settings as Settings
from keras_resnet.tuning.hypermodel import HyperResNet as HyperResNet
from keras_resnet.tuning.ledger import Trial as Trial
from keras_resnet.tuning.outcome import Search as Search
from keras_resnet.tuning.space import Dimension as Dimension
from keras_resnet.tuning.space import Space as Space
from keras_resnet.tuning.supervisor import SearchInterrupted as SearchInterrupted
from keras_resnet.tuning.supervisor import SearchStopped as SearchStopped
from keras_resnet.tuning.supervisor import search as search
