# RUN: printf 'nn 1; # \303\050\n' | nnc -
# EXIT: 1
