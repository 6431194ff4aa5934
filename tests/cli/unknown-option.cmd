# RUN: nnc --emitt=c %s
# EXIT: 2
