# RUN: nnc examples/mlp/model.nn --hvp=trian -o %t.c
# EXIT: 2
