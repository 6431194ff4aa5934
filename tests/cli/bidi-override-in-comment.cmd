# RUN: printf 'nn 1; # \342\200\256 gnp\n' | nnc -
# EXIT: 1
