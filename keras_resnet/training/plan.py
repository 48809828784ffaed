"""Which recipe trains a data set for which none was named: a table of rules, the first that fits."""

import dataclasses
from collections.abc import Callable

from keras_resnet.data import Dataset
from keras_resnet.tasks import REGRESSION
from keras_resnet.training.network import SMALL_SIDE_PX

# Training examples below which a network from scratch needs small batches, a strong decay and many epochs.
FEW_EXAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Rule:
    """A recipe and when it is taken.

    Attributes:
        recipe: its name.
        fits: whether it is for a data set.
        reason: told when it is taken.
    """

    recipe: str
    fits: Callable[[Dataset], bool]
    reason: str


def _is_small(dataset: Dataset) -> bool:
    """Returns True for small color images; gray ones are often characters, which mean another when they are flipped."""
    *space, channels = dataset.image_shape
    return len(space) == 2 and channels == 3 and all(side is not None and side < SMALL_SIDE_PX for side in space)


RULES = (
    Rule("quick", lambda dataset: dataset.spec == "digits", "it was made for these digits"),
    Rule("regression", lambda dataset: dataset.task == REGRESSION.name, "the labels are numbers"),
    Rule("signals", lambda dataset: len(dataset.image_shape) == 2, "the examples are signals"),
    Rule("volumes", lambda dataset: len(dataset.image_shape) == 4, "the examples are volumes"),
    Rule(
        "few-images",
        lambda dataset: _is_small(dataset) and dataset.sizes["train"] < FEW_EXAMPLES,
        f"there are fewer than {FEW_EXAMPLES:,} color images to train on, of less than {SMALL_SIDE_PX} px",
    ),
    Rule("cifar", _is_small, f"the images have colors and less than {SMALL_SIDE_PX} px"),
)


def recipe_for(dataset: Dataset) -> tuple[str, str] | None:
    """Returns the name of the recipe for a data set and the reason; None where no rule fits.

    Args:
        dataset: that is trained on, with random first weights.
    """
    return next(((rule.recipe, rule.reason) for rule in RULES if rule.fits(dataset)), None)
