"""RandAugment, TrivialAugment, AutoAugment, AugMix and color jitter, with its own draw for each picture."""

from typing import Any

import keras
import numpy as np

from keras_resnet.arguments import check_float, check_fraction, check_int, choose
from keras_resnet.preprocessing import image_ops
from keras_resnet.preprocessing.policies import (
    AUGMIX_OPS,
    AUGMIX_RANGES,
    RANDAUGMENT_OPS,
    RANDAUGMENT_RANGES,
    RANDAUGMENT_SPACES,
    SUB_POLICIES,
    TRIVIALAUGMENT_RANGES,
    Policy,
    resolve_operations,
    signs,
)
from keras_resnet.preprocessing.transforms import column, integers


@keras.saving.register_keras_serializable(package="keras_resnet")
class RandAugment(Policy):
    """Changes each picture by some of 14 to 16 operations, all of one strength.

    Args:
        magnitude: strength, a fraction of the ranges of the space, in [0, 1]: M of 30 in "paper", of 10 in the others.
        num_ops: how many operations follow one another, the paper's N.
        magnitude_std: standard deviation of the strength from operation to operation, as in timm; 0 in the paper.
        seed: int, or None for a random one.
        space: which published form: "paper", 14 operations with the ranges of AutoAugment's paper, as in torchvision;
            "timm", the 15 operations of timm's `rand-m*-inc1`, each of which happens with probability 0.5; "tpu", the
            16 operations of the authors' code for EfficientNet and ResNet-RS, cutout among them.
        **kwargs: of `Policy`.

    Source:
        Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search space"; timm's
        `auto_augment.py`; the authors' `tpu/models/official/efficientnet/autoaugment.py`.

    Example:
        >>> import keras
        >>> from keras_resnet.preprocessing import RandAugment
        >>> tuple(RandAugment(magnitude=0.3)(keras.ops.ones((2, 32, 32, 3)), training=True).shape)
        (2, 32, 32, 3)
    """

    def __init__(
        self,
        magnitude: float = 0.3,
        num_ops: int = 2,
        magnitude_std: float = 0.0,
        seed: int | None = None,
        space: str = "paper",
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        choose("space", space, RANDAUGMENT_SPACES)
        self.space = space
        self.magnitude = check_fraction("magnitude", magnitude, one_included=True)
        self.num_ops = check_int("num_ops", num_ops)
        self.magnitude_std = check_float("magnitude_std", magnitude_std, minimum=0.0)

    def draw_for(self, count: Any, size: tuple[int, int], draws: Any) -> Any:
        """Returns the draws of `num_ops` operations."""
        space, steps = RANDAUGMENT_SPACES[self.space], []
        has_places = any(row.placed for row in space.table.values())
        for _ in range(self.num_ops):
            which = integers((count,), len(space.names), draws)
            spread = keras.random.normal((count,), seed=draws) * self.magnitude_std if self.magnitude_std else 0.0
            levels = keras.ops.clip(keras.ops.zeros((count,)) + self.magnitude + spread, 0.0, 1.0)
            sides = signs(count, draws)
            places = keras.random.uniform((count, 2), seed=draws) if has_places else None
            choices, amounts = resolve_operations(space.table, space.names, size, which, levels, sides, places)
            if space.probability < 1:
                happens = keras.random.uniform((count,), seed=draws) < space.probability
                choices = keras.ops.where(happens, choices, 0)  # the first change is none
            steps.append((choices, amounts))
        return steps

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        names = ("magnitude", "num_ops", "magnitude_std", "space")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_resnet")
class TrivialAugment(Policy):
    """Changes each picture by one of 14 operations of random strength, over wide ranges; there is nothing to tune.

    Args:
        seed: int, or None for a random one.
        **kwargs: of `Policy`.

    Source:
        Müller and Hutter 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", TA (Wide).
    """

    def draw_for(self, count: Any, size: tuple[int, int], draws: Any) -> Any:
        """Returns the draws of one operation."""
        which, levels = integers((count,), len(RANDAUGMENT_OPS), draws), integers((count,), 31, draws)
        levels = keras.ops.cast(levels, "float32") / 30
        return [resolve_operations(TRIVIALAUGMENT_RANGES, RANDAUGMENT_OPS, size, which, levels, signs(count, draws))]


@keras.saving.register_keras_serializable(package="keras_resnet")
class AutoAugment(Policy):
    """Changes each picture by one of 25 pairs of operations that were found by reinforcement learning.

    Args:
        policy: "imagenet" or "cifar".
        seed: int, or None for a random one.
        **kwargs: of `Policy`.

    Source:
        Cubuk et al. 2019, "AutoAugment: Learning Augmentation Policies from Data", appendix.
    """

    def __init__(self, policy: str = "imagenet", seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        choose("policy", policy, SUB_POLICIES)
        self.policy = policy

    def draw_for(self, count: Any, size: tuple[int, int], draws: Any) -> Any:
        """Returns the draws of two operations."""
        names, pairs = tuple(RANDAUGMENT_RANGES), SUB_POLICIES[self.policy]
        chosen = integers((count,), len(pairs), draws)
        steps = []
        for place in range(2):
            operations = np.array([names.index(pair[place][0]) for pair in pairs], "int32")
            chances = np.array([pair[place][1] for pair in pairs], "float32")
            levels = np.array([pair[place][2] / 9 for pair in pairs], "float32")
            which, chance, level = (
                keras.ops.take(keras.ops.convert_to_tensor(values), chosen, axis=0)
                for values in (operations, chances, levels)
            )
            happens = keras.random.uniform((count,), seed=draws) < chance
            which = keras.ops.where(happens, which, names.index("identity"))
            steps.append(resolve_operations(RANDAUGMENT_RANGES, names, size, which, level, signs(count, draws)))
        return steps

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "policy": self.policy}


@keras.saving.register_keras_serializable(package="keras_resnet")
class AugMix(Policy):
    """Mixes each picture with chains of mild changes of it.

    The paper also holds the predictions for three such pictures against each other (the Jensen-Shannon loss); that is
    not part of the layer.

    Args:
        magnitude: strength, a fraction of the ranges, in [0, 1]; 0.3 in the paper.
        width: chains.
        depth: operations of a chain at most; their number is drawn from 1 to `depth`.
        alpha: of the Dirichlet and Beta distributions of the shares.
        seed: int, or None for a random one.
        **kwargs: of `Policy`.

    Source:
        Hendrycks et al. 2020, "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty".
    """

    def __init__(
        self,
        magnitude: float = 0.3,
        width: int = 3,
        depth: int = 3,
        alpha: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        self.magnitude = check_fraction("magnitude", magnitude, one_included=True)
        self.width, self.depth = check_int("width", width), check_int("depth", depth)
        self.alpha = check_float("alpha", alpha, minimum=0.0, minimum_included=False)

    def draw_for(self, count: Any, size: tuple[int, int], draws: Any) -> Any:
        """Returns the chains, the share of each, and the share of the picture itself."""
        chains = []
        for _ in range(self.width):
            length = 1 + integers((count,), self.depth, draws)
            steps = []
            for place in range(self.depth):
                which = integers((count,), len(AUGMIX_OPS), draws)
                levels = keras.random.uniform((count,), seed=draws) * self.magnitude
                choices, amounts = resolve_operations(
                    AUGMIX_RANGES, AUGMIX_OPS, size, which, levels, signs(count, draws)
                )
                steps.append((keras.ops.where(place < length, choices, 0), amounts))
            chains.append(steps)
        shares = keras.random.gamma((count, self.width), self.alpha, seed=draws)
        shares = shares / keras.ops.maximum(keras.ops.sum(shares, axis=1, keepdims=True), 1e-9)
        return {
            "chains": chains,
            "shares": shares,
            "own": keras.random.beta((count,), self.alpha, self.alpha, seed=draws),
        }

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the mixed pictures."""
        mixed = keras.ops.zeros_like(examples)
        for number, steps in enumerate(drawn["chains"]):
            mixed = mixed + column(drawn["shares"][:, number], 4) * super().change(examples, steps)
        own = column(drawn["own"], 4)
        return own * examples + (1 - own) * mixed

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        names = ("magnitude", "width", "depth", "alpha")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_resnet")
class ColorJitter(Policy):
    """Changes brightness, contrast and color of each picture by its own factors, in this order.

    Args:
        amount: furthest change of each factor from 1, in [0, 1]: 0.4 draws from [0.6, 1.4].
        seed: int, or None for a random one.
        **kwargs: of `Policy`.

    Source:
        Howard 2013, "Some Improvements on Deep Convolutional Neural Network Based Image Classification".
    """

    def __init__(self, amount: float = 0.4, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.amount = check_fraction("amount", amount, one_included=True)

    def draw_for(self, count: Any, size: tuple[int, int], draws: Any) -> Any:
        """Returns three factors for each picture."""
        low, high = 1 - self.amount, 1 + self.amount
        return [keras.random.uniform((count, 1), low, high, seed=draws) for _ in range(3)]

    def change(self, examples: Any, drawn: Any) -> Any:
        """Returns the changed pictures."""
        steps = (image_ops.brightness, image_ops.contrast, image_ops.color)
        for step, factors in zip(steps, drawn, strict=True):
            examples = step(examples, factors)
        return examples

    def get_config(self) -> dict[str, Any]:
        """Returns every constructor argument."""
        return {**super().get_config(), "amount": self.amount}
