# RUN: nnc --emit=cc x.nn
# EXIT: 2
