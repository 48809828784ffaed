"""Several devices or machines for one model: who they are, what they tell each other, and what Keras 3 needs for it.

Example:
    >>> from keras_resnet import distribution
    >>> distribution.find_peers(["10.0.0.1:2222", "10.0.0.2:2222"], 0).count
    2
"""

from keras_resnet import needs_tensorflow  # noqa: F401
from keras_resnet.distribution.devices import Devices as Devices
from keras_resnet.distribution.devices import data_parallel as data_parallel
from keras_resnet.distribution.devices import mirrored as mirrored
from keras_resnet.distribution.devices import on_devices as on_devices
from keras_resnet.distribution.group import ALONE as ALONE
from keras_resnet.distribution.group import Group as Group
from keras_resnet.distribution.group import PeerLost as PeerLost
from keras_resnet.distribution.group import join as join
from keras_resnet.distribution.jax_group import evaluation_size as evaluation_size
from keras_resnet.distribution.jax_group import join_jax as join_jax
from keras_resnet.distribution.jax_group import without_padding as without_padding
from keras_resnet.distribution.launch import run_on_ray as run_on_ray
from keras_resnet.distribution.launch import run_together as run_together
from keras_resnet.distribution.multi_worker import multi_worker as multi_worker
from keras_resnet.distribution.multi_worker import share as share
from keras_resnet.distribution.peers import Peers as Peers
from keras_resnet.distribution.peers import are_named as are_named
from keras_resnet.distribution.peers import find_peers as find_peers
from keras_resnet.distribution.step import in_group as in_group
