# RUN: nnc a.nn b.nn
# EXIT: 2
