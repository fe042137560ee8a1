#!/usr/bin/env bash
# A zoo of small networks on CIFAR-10 at 16 × 16 pixels, budgets of them and what they do, and a value
# that learned from these, like metaprune/pretrained/value.safetensors. About four hours on two
# cores; every step continues where it stopped. CIFAR-10 comes from the hub unless a folder is given:
#   bash runs/value.sh [folder or hub name of CIFAR-10] [folder for everything]
set -euo pipefail
cifar10=${1:-uoft-cs/cifar10}
out=${2:-runs/value}
metaprune zoo zoo=cifar10 zoo.folder="$out/zoo" zoo.members=48 zoo.held_out=8 \
    zoo.data.path="$cifar10" +zoo.data.size=16 zoo.seed=40000
metaprune triples triples.zoos="[$out/zoo]" triples.folder="$out/triples" \
    triples.targets='[{pattern: channels, macs: 50%}, {pattern: channels, macs: 30%}]'
metaprune train zoos="[$out/zoo]" triples="[$out/triples]" folder="$out/metanet"
