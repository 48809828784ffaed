"""A local page where one drops an image and sees classes, probabilities and what the network looks at.

Example:
    >>> from keras_resnet import demo
    >>> demo.serve("nowhere")
    Traceback (most recent call last):
    ...
    keras_resnet.errors.BadValue: run_or_model='nowhere' is not there. ...
"""

from keras_resnet import needs_tensorflow  # noqa: F401
from keras_resnet.demo.serving import application as application
from keras_resnet.demo.serving import serve as serve
