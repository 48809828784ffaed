"""A worker whose trials meet a fault: `FAULT` is "what:trial", as `die:1`; "once" leaves a mark and spares the next."""

import os
import pathlib
import signal
import sys
import time

import keras

from keras_resnet import training
from keras_resnet.tuning import worker
from keras_resnet.tuning.start_worker import end_with_parent

what, _, which = os.environ.get("FAULT", "none:").partition(":")
fit = training.fit


def faulty(recipe, **options):
    folder = options.get("out")
    if options.get("dry_run") or which not in ("all", folder.name):
        return fit(recipe, **options)
    if what.endswith("once"):
        mark = pathlib.Path(os.environ["MARK"])
        if mark.exists():
            return fit(recipe, **options)
    if what == "die":
        os._exit(9)
    if what == "error":
        raise RuntimeError("nobody foresaw this")
    if what in ("memory", "memoryonce"):
        if what == "memoryonce":
            mark.write_text("here")
        raise MemoryError
    if what == "stall":
        stop = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batch == 2 and time.sleep(600))
        return fit(recipe, **{**options, "callbacks": [*options["callbacks"], stop]})
    if what == "nan":
        return fit(recipe.replace({"optimizer.learning_rate": 1e20, "optimizer.clip_norm": 0.0}), **options)
    report = options["report"]

    def after_an_epoch(epoch, figures):
        done = report(epoch, figures)
        if what == "killonce":
            mark.write_text(str(epoch))
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "slow":
            time.sleep(600)
        return done

    return fit(recipe, **{**options, "report": after_an_epoch})


if __name__ == "__main__":
    end_with_parent()
    training.fit = faulty
    sys.exit(worker.main())
