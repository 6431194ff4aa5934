# RUN: printf 'nn 1;\n# a\0b\n' | nnc -
# EXIT: 1
