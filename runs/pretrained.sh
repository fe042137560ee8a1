#!/usr/bin/env bash
# Reproduces metaprune/pretrained/default.safetensors: two zoos, then two rounds of meta-training.
# About two hours on two cores. CIFAR-10 comes from the hub unless a folder is given:
#   bash runs/pretrained.sh [folder for everything] [folder or hub name of CIFAR-10]
set -euo pipefail
out=${1:-runs/pretrained}
cifar10=${2:-uoft-cs/cifar10}
metaprune zoo zoo=digits zoo.folder="$out/digits"
metaprune zoo zoo=cifar10 zoo.folder="$out/cifar10" zoo.members=10 zoo.held_out=1 \
    zoo.data.path="$cifar10"
train() { metaprune train zoos="[$out/digits,$out/cifar10]" threads=1 "$@"; }
train folder="$out/first" meta.steps=160 meta.networks=12 meta.lr=8e-4 \
    meta.judge_every=20 meta.checkpoint_every=20
train folder="$out/second" start="$out/first/metanet.safetensors" meta.steps=130 \
    meta.networks=16 meta.lr=4e-4 meta.seed=1 meta.judge_every=13 meta.checkpoint_every=13 \
    meta.patience=2
