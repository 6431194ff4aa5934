# RUN: nnc examples/mlp/model.nn --max-memory=1K -o %t.c
# EXIT: 4
