# RUN: printf 'nn 1;\nmodel \377 { }\n' | nnc -
# EXIT: 1
