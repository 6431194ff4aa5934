# RUN: nnc examples/linear/model.nn --max-memory=1K -o %t.c
# EXIT: 4
