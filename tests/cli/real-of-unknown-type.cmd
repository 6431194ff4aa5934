# RUN: nnc --real=f16 x.nn
# EXIT: 2
