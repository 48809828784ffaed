#!/bin/sh
# Trains the quickstart's recipe once a seed and prints each test accuracy.
#   sh examples/seeds.sh .venv/bin RUNS 0 1 2
set -eu
bin=$1
runs=$2
shift 2

mkdir -p "$runs"
for seed; do
  "$bin/keras-resnet" train --data digits --model resnet18 --recipe quick --seed "$seed" --out "$runs/$seed" --resume
done
echo
for seed; do
  "$bin/keras-resnet" evaluate "$runs/$seed" --json >"$runs/$seed.json"
  "$bin/python" -c 'import json, sys; print("seed", sys.argv[2], "test accuracy", json.load(open(sys.argv[1]))["accuracy"])' \
    "$runs/$seed.json" "$seed"
done
