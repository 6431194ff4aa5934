# RUN: nnc
# EXIT: 2
