#!/usr/bin/env bash
# Reproduces the masks of README.md, and docs/low-rank.md on the language model:
#   bash runs/masks.sh RESNET56.th CIFAR10 FOLDER_OF_MODEL TRAIN.txt TEST.txt [output]
# The ResNet takes about ten minutes on two cores, the language model two; both continue or repeat.
set -euo pipefail
export OMP_NUM_THREADS=1
out="${6:-runs/masks}"
mkdir -p "$out"
python -m benchmarks.budgets "$1" "$2" --network resnet56 --output "$out/resnet56.jsonl" \
    --budgets uniform global "expected loss" --solvers magnitude "admm, in order" --limit 4000
text=(model=hf model.path="$3" data=text data.train="$4" data.test="$5" data.tokenizer="$3"
    evaluate.limit=500 calibration.examples=64 calibration.batch_size=16 latency.repeats=5)
metaprune prune "${text[@]}" pattern=unstructured target.sparsity="[0.5,0.6,0.7]" \
    compare="[uniform,lamp]" hydra.run.dir="$out/tinystories"
metaprune prune "${text[@]}" pattern=unstructured target.sparsity="[0.5,0.6,0.7]" budget=uniform \
    compare="[]" "recovery=[{order: {sides: 1}},recalibrate]" hydra.run.dir="$out/tinystories-one-sided"
metaprune prune "${text[@]}" pattern=low-rank target.macs="[80%,65%]" \
    compare="[uniform,global,price]" hydra.run.dir="$out/tinystories-low-rank"
