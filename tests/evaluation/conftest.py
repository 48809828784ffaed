import pytest


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A run that learned something, and gets some digits wrong."""
    from keras_resnet import training

    small = {"model.width": 4, "train.epochs": 3, "train.batch_size": 64, "loss.label_smoothing": 0.0}
    return training.fit("quick", out=tmp_path_factory.mktemp("evaluation") / "run", overrides=small, verbose=0)
