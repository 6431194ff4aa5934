# RUN: nnc --help-op conv2
# EXIT: 2
