#!/bin/bash
# One search by several jobs under Slurm, in a folder that all of them see:
#   sbatch --array 0-3 --gpus-per-task 1 --time 8:00:00 examples/slurm/search.sh --trials 40 --out /shared/search
# The first job of the array starts the search, the others join it. Words after the name of the script are those of
# `keras-resnet tune`.
#SBATCH --job-name=keras-resnet-search
#SBATCH --ntasks=1

if [ "$SLURM_ARRAY_TASK_ID" -ne "$SLURM_ARRAY_TASK_MIN" ]; then
  export KERASTUNER_TUNER_ID="job-$SLURM_ARRAY_TASK_ID"
fi
exec srun keras-resnet tune --resume "$@"
