#!/usr/bin/env bash
# Reproduces the results table of README.md on the trained CIFAR-10 ResNets, about forty minutes on
# two cores:
#   bash runs/cifar10_resnets.sh FOLDER_OF_CHECKPOINTS [folder or hub name of CIFAR-10] [output]
# The learning rate was chosen among 0.01 and 0.03 on a part of train (ResNet-20, global, 2x), before
# gradients were clipped by default.
set -euo pipefail
checkpoints=$1
cifar10=${2:-uoft-cs/cifar10}
out=${3:-runs/cifar10-resnets}
export OMP_NUM_THREADS=1
prune() {
    depth=$1 file=$2
    shift 2
    metaprune prune model="resnet$depth" model.path="$checkpoints/$file" \
        data=cifar10 data.path="$cifar10" finetune=default finetune.epochs=1 finetune.lr=0.01 \
        finetune.evaluate_limit=1000 save=false target.speedup="[1.5,2]" latency.repeats=10 "$@"
}
for way in "base metanet=null budget=global compare=[uniform]" "meta metanet=default compare=[]"; do
    read -r name settings <<<"$way"
    # shellcheck disable=SC2086
    prune 20 resnet20-12fca82f.th data.train_size=12800 hydra.run.dir="$out/$name-20" $settings
    # shellcheck disable=SC2086
    prune 56 resnet56-4bfd9763.th data.train_size=6400 evaluate.limit=4000 \
        hydra.run.dir="$out/$name-56" $settings
done
