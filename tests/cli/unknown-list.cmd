# RUN: nnc --list=op
# EXIT: 2
