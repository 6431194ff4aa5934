# RUN: printf 'nn 1;\n\tconst A = ;\n' | nnc -
# EXIT: 1
