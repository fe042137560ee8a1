#!/usr/bin/env bash
# Reproduces the language-model rows of README.md, about two minutes on two cores:
#   bash runs/tinystories.sh FOLDER_OF_MODEL TRAIN.txt TEST.txt [output]
set -euo pipefail
export OMP_NUM_THREADS=1
metaprune prune model=hf model.path="$1" data=text data.train="$2" data.test="$3" \
    data.tokenizer="$1" target.macs="[80%,65%]" compare="[flap,metanet,uniform]" evaluate.limit=500 \
    calibration.examples=64 calibration.batch_size=16 latency.repeats=5 \
    hydra.run.dir="${4:-runs/tinystories}"
