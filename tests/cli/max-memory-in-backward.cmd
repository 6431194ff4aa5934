# RUN: nnc tests/emit/in-backward.nn --max-memory=1K -o %t.c
# EXIT: 4
