# RUN: nnc --version
