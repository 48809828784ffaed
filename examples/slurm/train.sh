#!/bin/bash
# One training in several processes under Slurm:
#   sbatch --ntasks 4 --gpus-per-task 1 --time 4:00:00 examples/slurm/train.sh --recipe cifar --data tfds:cifar10 --out runs/cifar
# Slurm warns the tasks a few minutes before the time is over: they save, the job puts itself back into the queue, and goes
# on at that step. Words after the name of the script are those of `keras-resnet train`.
#SBATCH --job-name=keras-resnet
#SBATCH --signal=USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append

srun --kill-on-bad-exit=0 keras-resnet train --set distribution.kind=multiworker --resume "$@"
status=$?
# 143: every task was warned, and has saved. Another status is the end, or a fault that would come again.
if [ "$status" -eq 143 ]; then
  # Slurm's controller may be busy for a moment; where it takes the job back, it ends this script.
  for attempt in 1 2 3 4 5 6; do
    scontrol requeue "$SLURM_JOB_ID" && break
    sleep 10
  done
fi
exit "$status"
