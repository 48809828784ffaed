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
        fits: whether it is for a data set, whose examples the network takes with this shape.
        reason: told when it is taken.
    """

    recipe: str
    fits: Callable[[Dataset, tuple[int, ...]], bool]
    reason: str


def _is_small(dataset: Dataset, shape: tuple[int, ...]) -> bool:
    """Returns True for small color images; gray ones are often characters, which mean another when they are flipped."""
    *space, channels = shape
    return len(space) == 2 and channels == 3 and max(space) < SMALL_SIDE_PX


RULES = (
    Rule("quick", lambda dataset, shape: dataset.spec == "digits", "it was made for these digits"),
    Rule("regression", lambda dataset, shape: dataset.task == REGRESSION.name, "the labels are numbers"),
    Rule("signals", lambda dataset, shape: len(shape) == 2, "the examples are signals"),
    Rule("volumes", lambda dataset, shape: len(shape) == 4, "the examples are volumes"),
    Rule(
        "few-images",
        lambda dataset, shape: _is_small(dataset, shape) and dataset.sizes["train"] < FEW_EXAMPLES,
        f"there are fewer than {FEW_EXAMPLES:,} color images to train on, of less than {SMALL_SIDE_PX} px",
    ),
    Rule("cifar", _is_small, f"the images have colors and less than {SMALL_SIDE_PX} px"),
)


def recipe_for(dataset: Dataset, shape: tuple[int, ...]) -> tuple[str, str] | None:
    """Returns the name of the recipe for a data set and the reason; None where no rule fits.

    Args:
        dataset: that is trained on, with random first weights.
        shape: `(*space, channels)` of what the network takes.
    """
    return next(((rule.recipe, rule.reason) for rule in RULES if rule.fits(dataset, shape)), None)
