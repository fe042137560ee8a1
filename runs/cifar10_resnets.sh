#!/usr/bin/env bash
# Reproduces the results table of README.md on the trained CIFAR-10 ResNets, about twenty minutes on two
# cores, and keeps its figures for the picture that `make docs` draws:
#   bash runs/cifar10_resnets.sh FOLDER_OF_CHECKPOINTS [folder or hub name of CIFAR-10] [output]
set -euo pipefail
checkpoints=$1
cifar10=${2:-uoft-cs/cifar10}
out=${3:-runs/cifar10-resnets}
export OMP_NUM_THREADS=1
prune() {
    depth=$1 file=$2
    shift 2
    metaprune prune model="resnet$depth" model.path="$checkpoints/$file" data=cifar10 \
        data.path="$cifar10" save=false target.speedup="[1.5,2]" compare="[global,metanet,uniform]" \
        latency.batch_size=0 hydra.run.dir="$out/$depth" "$@"
}
prune 20 resnet20-12fca82f.th
prune 56 resnet56-4bfd9763.th evaluate.limit=4000
for depth in 20 56; do
    python -m benchmarks.pages.keep_report "ResNet-$depth" "$out/$depth/report.json"
done
