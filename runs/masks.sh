#!/usr/bin/env bash
# Reproduces the masks of README.md, and docs/low-rank.md on the language model:
#   bash runs/masks.sh RESNET56.th CIFAR10 FOLDER_OF_MODEL TRAIN.txt TEST.txt [output]
# About half an hour on two cores.
set -euo pipefail
export OMP_NUM_THREADS=1
out="${6:-runs/masks}"
one="recovery=[{order: {sides: 1}},recalibrate]"
images=(model=resnet56 model.path="$1" data=cifar10 data.path="$2" save=false evaluate.limit=4000
    latency.batch_size=0 pattern=unstructured target.sparsity="[0.5,0.7,0.8,0.9]")
metaprune prune "${images[@]}" compare="[global,uniform]" hydra.run.dir="$out/resnet56"
metaprune prune "${images[@]}" budget=global compare="[uniform]" "$one" \
    hydra.run.dir="$out/resnet56-one-sided"
text=(model=hf model.path="$3" data=text data.train="$4" data.test="$5" data.tokenizer="$3"
    evaluate.limit=500 calibration.examples=64 calibration.batch_size=16 latency.repeats=5)
metaprune prune "${text[@]}" pattern=unstructured target.sparsity="[0.5,0.6,0.7]" \
    compare="[uniform,lamp]" hydra.run.dir="$out/tinystories"
metaprune prune "${text[@]}" pattern=unstructured target.sparsity="[0.5,0.6,0.7]" budget=uniform \
    compare="[]" "$one" hydra.run.dir="$out/tinystories-one-sided"
metaprune prune "${text[@]}" pattern=low-rank target.macs="[80%,65%]" \
    compare="[uniform,global,price]" hydra.run.dir="$out/tinystories-low-rank"
