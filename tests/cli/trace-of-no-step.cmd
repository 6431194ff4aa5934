# RUN: nnc examples/mlp/model.nn --trace=trian -o %t.c
# EXIT: 2
