# RUN: nnc examples/mlp/model.nn --values=values.safetensors -o %t.c
# EXIT: 2
