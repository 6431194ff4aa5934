# RUN: nnc -o
# EXIT: 2
