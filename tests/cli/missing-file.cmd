# RUN: nnc no/such/file.nn
# EXIT: 3
