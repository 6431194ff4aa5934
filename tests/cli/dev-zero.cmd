# RUN: nnc /dev/zero
# EXIT: 3
