"""Our networks and recipes as a `keras_tuner.HyperModel`, for KerasTuner's own tuners in a script of one's own."""

from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner

from keras_resnet import data as datasets
from keras_resnet import training
from keras_resnet.arguments import choose
from keras_resnet.errors import BadType
from keras_resnet.models import VARIANTS
from keras_resnet.tuning.space import VARIANT, Space


class HyperResNet(keras_tuner.HyperModel):
    """Builds, compiles and fits the network of each point of a search space.

    Args:
        space: what is varied.
        recipe: where everything else comes from; a `Recipe` or the name of one.
        data: a `Dataset`, or a spec such as "digits".
        model: the variant, where the space has no dimension "variant".
        name: of the hypermodel.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, or the space does not fit the recipe.

    Example:
        >>> import keras_tuner
        >>> from keras_resnet.tuning import HyperResNet, Space
        >>> hypermodel = HyperResNet(Space.load("default"), "quick", "digits")
        >>> hypermodel.build(keras_tuner.HyperParameters()).output_shape
        (None, 10)
    """

    def __init__(
        self,
        space: Space,
        recipe: training.Recipe | str,
        data: datasets.Dataset | str,
        model: str = "resnet18",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if not isinstance(space, Space):
            raise BadType(f"space must be a Space, got {space!r}. Pass Space.load('default') or a file of your own.")
        self.recipe = recipe if isinstance(recipe, training.Recipe) else training.Recipe.load(recipe)
        space.for_recipe(self.recipe)
        self.space = space
        choose("model", model, VARIANTS)
        self.model = model
        self.experiment = training.resolve(self.recipe, model=model, data=data)
        self.data = self.experiment.dataset

    def recipe_of(self, hp: keras_tuner.HyperParameters) -> training.Recipe:
        """Returns the recipe of a point, which `Recipe.save` writes for `keras-resnet train`."""
        self.space.declare(hp, self.recipe, self.model)
        return self.recipe.replace(
            self.space.overrides({key: hp.get(key) for key in self.space.names if _is_active(hp, key)})
        )

    def setup_of(self, hp: keras_tuner.HyperParameters) -> training.Experiment:
        """Returns everything that the training of a point is made of."""
        recipe = self.recipe_of(hp)
        return self.experiment.for_recipe(recipe, hp.get(VARIANT) if VARIANT in self.space.names else self.model)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Returns the compiled network of a point: images in [0, 255] to logits."""
        network = self.setup_of(hp).build_model()
        network.compile(**self.setup_of(hp).compile_args())
        return network

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        epochs: int | None = None,
        initial_epoch: int = 0,
        **kwargs: Any,
    ) -> Any:
        """Trains on the training split and validates on the validation split; further arguments go to `model.fit`.

        Args:
            hp: of KerasTuner.
            model: as `build` returned it.
            callbacks: KerasTuner's, and yours.
            epochs: up to which is trained; by default the recipe's. Hyperband sets it.
            initial_epoch: where a promoted trial goes on.
            **kwargs: `verbose` and the like.
        """
        experiment = self.setup_of(hp)
        average = experiment.recipe.optimizer.weight_average()
        history = keras.callbacks.History()
        history.set_model(model)
        history.history = experiment.fit(
            model,
            # The average first of all, so that KerasTuner's own callbacks save what was validated.
            callbacks=[*([] if average is None else [average]), *callbacks],
            average=average,
            start_epoch=initial_epoch,
            end_epoch=epochs,
            **kwargs,
        )
        return history


def _is_active(hp: keras_tuner.HyperParameters, name: str) -> bool:
    return any(hp.is_active(entry) for entry in hp.space if entry.name == name)
