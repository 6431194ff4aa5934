# RUN: nnc tests
# EXIT: 3
